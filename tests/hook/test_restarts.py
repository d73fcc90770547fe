"""The record of a run's starts, by which a restart knows its run."""

from __future__ import annotations

from pathlib import Path

from lmlt_arch.hook import restarts


def test_records(tmp_path: Path) -> None:
    assert restarts.read_record(tmp_path) == restarts.Record()
    restarts.write_record(tmp_path, "x", ["b", "", "a", "b"], {"SLURM_JOB_ID": "7"})
    record = restarts.read_record(tmp_path)
    assert (record.run, record.agents, record.job) == ("x", ("a", "b"), "7")
    # A counter alone is not enough: the job may have begun with another run.
    again = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    assert restarts.restart_reason(tmp_path, again) == "SLURM has started the job again"
    for other in ({**again, "SLURM_JOB_ID": "8"}, {**again, "SLURM_RESTART_COUNT": "0"}, {}):
        assert not restarts.restart_reason(tmp_path, other)
    assert not restarts.restart_reason(tmp_path, {"TORCHELASTIC_RESTART_COUNT": "1"})
    for damaged in ("[", "[]", '{"agents": null}', '{"agents": 5, "run": 1, "time": 0, "job": ""}', '"x"'):
        (tmp_path / restarts.RECORD).write_text(damaged)
        assert restarts.read_record(tmp_path) == restarts.Record()
        assert not restarts.restart_reason(tmp_path, again)
    # What a process of torchrun has started is no process of torchrun.
    assert restarts.agent_of({}) == restarts.agent_of({"TORCHELASTIC_RUN_ID": "none"}) == ""
