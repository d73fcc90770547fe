"""A user's program that trains with classes of its own, run by tests with and without the plugin.

    python users_training.py FOLDER_OF_BASICSR FOLDER RUN [RUN ...]

Each RUN is `name=option file`; all are trained in this process, one after the other. Where the plugin is not
there, what keeps any training from starting on this machine is got out of the way, and nothing else. All
classes have names that the plugin uses too.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import ModuleType

import torch

kept = []


def declare_torchvision() -> None:
    """Declare torchvision's operators where its library does not load, and its module that is gone."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        kept.append(library)
    from torchvision.transforms.functional import rgb_to_grayscale

    gone = ModuleType("torchvision.transforms.functional_tensor")
    gone.rgb_to_grayscale = rgb_to_grayscale
    sys.modules[gone.__name__] = gone


basicsr_home, folder, *runs = sys.argv[1:]
sys.path.insert(0, basicsr_home)
plugged = find_spec("lmlt_arch") is not None

if not plugged:
    declare_torchvision()
    torch.cuda.current_device = lambda: 0
    load = torch.load
    torch.load = lambda path, map_location=None, **kwargs: load(path, map_location="cpu", **kwargs)
    if "RANK" in os.environ:
        import basicsr.models.base_model
        import basicsr.utils.dist_util
        from torch.nn.parallel import DistributedDataParallel

        basicsr.utils.dist_util._init_dist_pytorch = lambda backend, **kwargs: (
            torch.distributed.init_process_group("gloo", **kwargs)
        )
        basicsr.models.base_model.BaseModel.model_to_device = lambda self, net: (
            DistributedDataParallel(net) if self.opt["dist"] else net
        )

import basicsr
from basicsr.archs.edsr_arch import EDSR
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.losses import build_loss
from basicsr.metrics.psnr_ssim import calculate_psnr
from basicsr.models.sr_model import SRModel
from basicsr.train import train_pipeline
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)


@ARCH_REGISTRY.register()
class LMLT(EDSR):
    pass


@LOSS_REGISTRY.register()
class FFTLoss(torch.nn.L1Loss):
    def __init__(self, my_power):
        super().__init__()
        self.my_power = my_power

    def forward(self, output, gt):
        return super().forward(output, gt) ** self.my_power


@DATASET_REGISTRY.register()
class PairedCropDataset(PairedImageDataset):
    def __init__(self, opt):
        super().__init__(opt)
        self.my_gain = opt["my_gain"]

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item["lq"] = item["lq"] * self.my_gain
        return item


@METRIC_REGISTRY.register()
def calculate_lpips(img, img2, my_border, **kwargs):
    return calculate_psnr(img, img2, crop_border=my_border)


@MODEL_REGISTRY.register()
class ESRModel(SRModel):
    def init_training_settings(self):
        super().init_training_settings()
        self.my_loss = build_loss(self.opt["train"]["my_opt"])

    def feed_data(self, data):
        assert data["lq"].dtype == torch.float32
        super().feed_data(data)

    def optimize_parameters(self, current_iter):
        super().optimize_parameters(current_iter)
        # The random numbers of the data workers and of the main process appear in the log.
        self.log_dict["mine"] = self.opt["train"]["my_weight"] * float(
            self.my_loss(self.output, self.gt).detach() + torch.rand(()) + self.lq.mean()
        )


if __name__ == "__main__":  # not in data workers that are spawned
    os.chdir(folder)
    for run in runs:
        name, _, file = run.partition("=")
        print(f"run {run} with BasicSR {basicsr.__version__}", flush=True)
        launcher = ["--launcher", "pytorch"] if "RANK" in os.environ else []
        sys.argv = ["train.py", "-opt", file, *launcher, *(["--auto_resume"] if name == "auto" else [])]
        train_pipeline(folder)
