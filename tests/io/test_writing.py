"""Files are written in whole, by any number of writers at once, to paths of any kind."""

import os
import sys
import threading
from multiprocessing import get_context

import numpy as np
import pytest
from skorch.callbacks import Callback

import skvae
from skvae import VAETransformer
from skvae._io.tensor_file import read, write

from ..conftest import small

CONTENT = {"array": np.arange(1000.0)}


def write_often(path):
    for _ in range(50):
        write(path, CONTENT)


@pytest.mark.parametrize("writer", [threading.Thread, get_context("spawn").Process], ids=["threads", "processes"])
def test_many_writers_of_one_path(writer, tmp_path):
    path, failed = tmp_path / "file", []

    def noted(run):
        try:
            run()
        except BaseException as error:
            failed.append(error)

    if writer is threading.Thread:
        writers = [writer(target=noted, args=(lambda: write_often(path),)) for _ in range(4)]
    else:
        writers = [writer(target=write_often, args=(path,)) for _ in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    assert not failed and all(getattr(one, "exitcode", 0) == 0 for one in writers)
    np.testing.assert_array_equal(read(path)["array"], CONTENT["array"])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_processes_of_equal_number_on_two_hosts(tmp_path, monkeypatch):
    """One begins to write while the other has not ended, which is where they meet."""
    path, sync = tmp_path / "file", os.fsync
    monkeypatch.setattr(os, "getpid", lambda: 7)

    def write_another(descriptor):
        monkeypatch.setattr(os, "fsync", sync)
        write(path, {"by": "the other"})
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", write_another)
    write(path, {"by": "the one"})
    assert read(path) == {"by": "the one"}
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_the_longest_name_that_a_folder_takes(tmp_path):
    path = tmp_path / ("x" * 255)
    write(path, CONTENT)
    assert read(path).keys() == CONTENT.keys()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_stays_a_link(is_there, tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "file", tmp_path / "link"
    if is_there:
        target.write_bytes(b"before")
    link.symlink_to(os.path.join("far", "file"))
    write(link, CONTENT)
    assert link.is_symlink() and read(target).keys() == CONTENT.keys()
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["far", "file", "link"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes")
def test_a_mode_stays_a_mode_and_a_new_file_follows_the_mask(tmp_path):
    path, new = tmp_path / "file", tmp_path / "new"
    path.touch()
    mask = os.umask(0o027)
    try:
        for mode in (0o600, 0o666, 0o640):
            path.chmod(mode)
            write(path, CONTENT)
            assert path.stat().st_mode & 0o777 == mode
        write(new, CONTENT)
    finally:
        os.umask(mask)
    assert new.stat().st_mode & 0o777 == 0o640


def test_two_runs_of_one_fit_with_one_checkpoint(tmp_path, spectra):
    """The other ends first, and takes the file with it."""
    path = tmp_path / "checkpoint"

    class OtherRun(Callback):
        def on_train_end(self, net, **kwargs):
            path.unlink()

    params = small(early_stopping=False)
    vae = VAETransformer(2, **params, checkpoint=path, callbacks=[OtherRun()]).fit(spectra)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(vae.transform(spectra), VAETransformer(2, **params).fit(spectra).transform(spectra))


def test_a_path_is_kept_as_a_string(tmp_path, spectra):
    vae = VAETransformer(2, **small(max_iter=1, checkpoint=tmp_path / "checkpoint")).fit(spectra)
    vae.save(tmp_path / "file")
    again = skvae.load(tmp_path / "file", device="cpu")
    assert again.checkpoint == str(tmp_path / "checkpoint")
    np.testing.assert_array_equal(again.transform(spectra), vae.transform(spectra))
