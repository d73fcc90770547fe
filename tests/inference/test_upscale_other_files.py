"""`lmlt upscale` on videos, and with an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmlt_arch import Upscaler
from lmlt_arch.cli import main


def test_videos_beside_images(
    tmp_path: Path,
    photo: Image.Image,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    av = pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    photo.save("in/a.png")
    with av.open("in/film.avi", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = photo.size
        for _ in range(7):
            container.mux(stream.encode(av.VideoFrame.from_image(photo)))
        container.mux(stream.encode())
    (tmp_path / "in" / "broken.mp4").write_bytes(b"nothing")

    command = ["upscale", "in", "-o", "out", "--model", str(checkpoint), "--outscale", "1.5", "--json"]
    assert main(command) == 1
    *results, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (summary["done"], summary["failed"]) == (2, 1)
    assert {result["output"]: result["output_size"] for result in results} == {
        "out/a.png": [60, 45],
        "out/film.mkv": [60, 45],
        "out/broken.mp4": None,
    }
    with av.open("out/film.mkv") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 7
    expected = np.asarray(Upscaler(checkpoint)(photo).resize((60, 45), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(frames[3] - expected).mean() < 25
    assert main(command) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"] == 2


def test_a_webm_needs_no_codec(
    tmp_path: Path,
    photo: Image.Image,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    av = pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    with av.open("in/film.webm", "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height = 16, 12
        container.mux(stream.encode(av.VideoFrame.from_image(photo.resize((16, 12)))))
        container.mux(stream.encode())
    command = ["upscale", "in", "-o", "out", "--model", str(checkpoint)]
    assert main(command) == 0
    with av.open("out/film.webm") as container:
        assert container.streams.video[0].codec_context.name == "vp9"
        assert [frame.width for frame in container.decode(video=0)] == [32]
    capsys.readouterr()
    assert main([*command, "--overwrite", "--codec", "libx264"]) == 1
    assert "cannot hold libx264" in capsys.readouterr().err
    long = f"in/{250 * 'n'}.avi"
    (tmp_path / "in" / "film.webm").rename(long)
    assert main(["upscale", long, "-o", "out", "--model", str(checkpoint), "--suffix", "_x2"]) == 1
    assert "name too long" in capsys.readouterr().err
    (tmp_path / long).rename(f"in/{240 * 'n'}.webm")
    assert main(command) == 0


@pytest.mark.slow
def test_an_onnx_file(tmp_path: Path, photo: Image.Image, checkpoint: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    photo.save(tmp_path / "a.png")
    onnx = tmp_path / "net.onnx"
    assert main(["export", "--model", str(checkpoint), "-o", str(onnx)]) == 0
    results = []
    backends = ([str(onnx), "--backend", name] for name in ("onnxruntime", "openvino"))
    for model in ([str(checkpoint)], [str(onnx)], *backends):
        command = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--overwrite", "--model"]
        assert main([*command, *model]) == 0
        results.append(np.asarray(Image.open(tmp_path / "out" / "a.png")).astype(int))
    for result in results[1:]:
        assert np.abs(result - results[0]).max() <= 1
    # Tiles and turned versions work as with a checkpoint.
    lq = torch.rand(1, 3, 150, 140)
    torch.testing.assert_close(
        Upscaler(onnx, tile=128, ensemble=True).upscale(lq),
        Upscaler(checkpoint, tile=128, ensemble=True).upscale(lq),
        rtol=1e-3,
        atol=1e-3,
    )


def test_a_backend_without_an_onnx_file(
    tmp_path: Path, photo: Image.Image, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "a.png")
    command = ["upscale", str(tmp_path / "a.png"), "-o", "out", "--model", str(checkpoint)]
    assert main([*command, "--backend", "openvino"]) == 2
    assert "openvino runs .onnx files: make one with `lmlt export`" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--dtype", "fp16"], ["--compile"], ["--key", "params"]])
def test_options_that_an_onnx_file_does_not_have(
    tmp_path: Path, photo: Image.Image, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "a.png")
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    command = [
        "upscale",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "out"),
        "--model",
        str(tmp_path / "net.onnx"),
    ]
    assert main([*command, *more]) == 2
    assert "an ONNX file is as it was exported: leave out key, dtype and compile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "says"), [("net.onnx", "damaged, not an ONNX file"), ("net.pt2", "can run code")]
)
def test_files_that_are_no_network(
    tmp_path: Path, photo: Image.Image, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    photo.save(tmp_path / "a.png")
    (tmp_path / name).write_bytes(b"nothing")
    command = [
        "upscale",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "out"),
        "--model",
        str(tmp_path / name),
    ]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
