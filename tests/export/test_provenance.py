"""Provenance of a bundle: where it says that it comes from."""

from __future__ import annotations

import subprocess

from lnn_edge.export.provenance import make_provenance

AUTHOR = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def git(*arguments):
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    assert make_provenance(None).git_commit is None  # as long as there is none
    git(*AUTHOR, "commit", "-q", "--allow-empty", "-m", "x")
    assert make_provenance(None).git_commit == git("rev-parse", "HEAD")


def test_no_commit_without_a_repository_or_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert make_provenance(None).git_commit is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert make_provenance(None).git_commit is None
