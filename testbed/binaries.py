"""Provides the programs of a cluster: found on the machine when their version fits, else built.

Built once from pinned Go modules into a cache folder named after the hash of go.sum, so a
change of version never meets an old binary.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import TestbedError
from testbed.layout import GO_MODULES, cache_root
from testbed.processes import locked, run
from testbed.progress import Update, phase, say
from testbed.toolchain import find_go

KUBERNETES = "v1.36.3"
ETCD = "3.6"


@dataclass(frozen=True)
class Program:
    """One binary: the Go package it is built from, and how to tell whether a found one fits."""

    name: str
    package: str
    version_argv: tuple[str, ...] = ()  # empty: never taken from PATH
    version_pattern: str = ""


@dataclass(frozen=True)
class Module:
    """One go.mod and the flags its programs are built with."""

    folder: str
    ldflags: str
    programs: tuple[Program, ...]
    tags: str = ""

    @property
    def source(self) -> Path:
        return GO_MODULES / self.folder

    @property
    def target(self) -> Path:
        return cache_root() / "bin" / f"{self.folder}-{self.key}"

    @property
    def key(self) -> str:
        digest = hashlib.sha256()
        for file in sorted(self.source.iterdir()):
            if file.suffix in {".mod", ".sum", ".go"}:
                digest.update(file.read_bytes())
        digest.update(f"{self.ldflags} {self.tags}".encode())
        return digest.hexdigest()[:12]


def _kubernetes(name: str) -> Program:
    argv = ("version", "--client") if name == "kubectl" else ("--version",)
    minor = re.escape(KUBERNETES.rsplit(".", 1)[0])
    return Program(name, f"k8s.io/kubernetes/cmd/{name}", argv, rf"\b{minor}\.\d+\s*$")


_VERSION = "k8s.io/component-base/version"
_MAJOR, _MINOR = KUBERNETES.removeprefix("v").split(".")[:2]

CONTROL = Module(
    "kubernetes",
    f"-s -w -X {_VERSION}.gitVersion={KUBERNETES}"
    f" -X {_VERSION}.gitMajor={_MAJOR} -X {_VERSION}.gitMinor={_MINOR}",
    (
        Program(
            "etcd",
            "go.etcd.io/etcd/server/v3",
            ("--version",),
            rf"etcd Version: {re.escape(ETCD)}\.",
        ),
        *map(
            _kubernetes,
            ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"),
        ),
        Program("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
    ),
)
KUBECTL = Module("kubernetes", CONTROL.ldflags, (_kubernetes("kubectl"),))
NODE = (
    Module("kubernetes", CONTROL.ldflags, (_kubernetes("kubelet"), _kubernetes("kube-proxy"))),
    Module(
        "containerd",
        "-s -w",
        tuple(
            Program(package.rsplit("/", 1)[1], package)
            for package in (
                "github.com/containerd/containerd/v2/cmd/containerd",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/ctr",
                "github.com/containernetworking/plugins/plugins/ipam/host-local",
                "github.com/containernetworking/plugins/plugins/main/bridge",
                "github.com/containernetworking/plugins/plugins/main/loopback",
            )
        ),
        tags="no_btrfs,no_zfs,no_devmapper,no_aufs",
    ),
    Module("coredns", "-s -w", (Program("coredns", "."),)),
    Module("pause", "-s -w", (Program("pause", "."),)),
)


def provide(modules: Iterable[Module]) -> dict[str, Path]:
    """Path of every program of these modules by name; builds the missing ones."""
    found: dict[str, Path] = {}
    for module in modules:
        missing = [p for p in module.programs if not _take(p, module, found)]
        if missing:
            with locked(
                module.target.with_name(f".{module.target.name}.lock"),
                lambda: say("Another build of the test bed runs; waiting for it ..."),
            ):
                missing = [p for p in missing if not _take(p, module, found)]
                if missing:
                    _build(module, missing)
            for program in missing:
                found[program.name] = module.target / program.name
    return found


def _take(program: Program, module: Module, found: dict[str, Path]) -> bool:
    built = module.target / program.name
    candidates = [built]
    if program.version_argv:
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        on_path = shutil.which(program.name)
        candidates = [
            *([Path(assets) / program.name] if assets else []),
            built,
            *([Path(on_path)] if on_path else []),
        ]
    for candidate in candidates:
        if candidate.exists() and (candidate == built or _fits(program, candidate)):
            found[program.name] = candidate
            return True
    return False


def _fits(program: Program, candidate: Path) -> bool:
    with contextlib.suppress(TestbedError):
        said = run([candidate, *program.version_argv], timeout=20)
        return re.search(program.version_pattern, said, re.MULTILINE) is not None
    return False


def _build(module: Module, programs: list[Program]) -> None:
    go = find_go()
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    env |= {"GOTOOLCHAIN": "local", "GOWORK": "off", "PATH": f"{go.parent}:{os.environ['PATH']}"}
    env.pop("GOROOT", None)  # each Go knows its own
    packages = [p.package for p in programs]
    tags = ["-tags", module.tags] if module.tags else []
    names = ", ".join(p.name for p in programs)
    with phase(f"Fetching Go modules of {module.folder}") as update:
        listed = _follow([go, "list", "-deps", *tags, *packages], module.source, env, update)
    module.target.mkdir(parents=True, exist_ok=True)
    with (
        phase(f"Building {names} (minutes on a first run)") as update,
        tempfile.TemporaryDirectory(dir=module.target) as fresh,
    ):
        flags = ["-v", "-trimpath", *tags, "-ldflags", module.ldflags, "-o", f"{fresh}/"]
        _follow([go, "build", *flags, *packages], module.source, env, update, total=len(listed))
        for program in programs:
            _built_file(Path(fresh), program).replace(module.target / program.name)


def _built_file(folder: Path, program: Program) -> Path:
    """Where `go build -o folder/` put it: etcd's main package, for one, is called `server`."""
    by_package = {"go.etcd.io/etcd/server/v3": "server"}
    return folder / by_package.get(program.package, program.name)


def _follow(
    argv: list[str | Path],
    cwd: Path,
    env: dict[str, str],
    update: Update,
    total: int | None = None,
) -> list[str]:
    """Run a Go command, showing its latest line; gives all lines, or raises with the last ones."""
    lines: list[str] = []
    with subprocess.Popen(
        [str(a) for a in argv],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line.rstrip())
            done = f"at most {total} packages, {len(lines)} compiled; " if total else ""
            update(f"{done}{lines[-1][-60:]}")
    if child.returncode != 0:
        said = "\n".join(lines[-15:])
        raise TestbedError(
            f"{argv[0]} {argv[1]} in {cwd} ended with {child.returncode}:\n{said}\n"
            "Go modules come from GOPROXY; check the network, then run `up` again: "
            "what was compiled is kept."
        )
    return lines
