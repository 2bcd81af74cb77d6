"""All that is run on this repository.

    nox                                      the gates and the tests on the CPU; what `.ci/run` runs
    nox -s "tests(losses, cpu)" -- -k elbo   one package's tests; arguments go to pytest
    nox -s dev                               the environment for daily work, .nox/dev, with every package editable
    nox -l                                   the list

As many sessions run at once as there are cores, each in one process, so that no core waits; `nox -j 1` runs one after the other.
`PIXYZ_TORCH="torch==2.11.0"` puts another build of torch than that of constraints.txt into .nox/dev.
"""

import configparser
import contextlib
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "virtualenv"  # not uv, which takes a CUDA build of torch
nox.options.reuse_venv = "yes"
nox.options.allow_parallel = True
nox.options.parallel = "auto"

ROOT = Path(__file__).parent
DEV = ROOT / ".nox" / "dev" / ("Scripts" if os.name == "nt" else "bin")
ROOT_PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
FOLDERS = {path.parent.name.removeprefix("pixyz-"): path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
PROJECTS = {part: nox.project.load_toml(folder / "pyproject.toml")["project"] for part, folder in FOLDERS.items()}
WITH_CODE = [part for part, folder in FOLDERS.items() if (folder / "src").is_dir()]

ENVIRONMENT = {
    # Torch takes as many threads as it sees cores, in each of several processes, however few of the cores are its own.
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    # Without bytecode, an import of torch takes twice as long, in each process anew.
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(ROOT / ".nox" / "bytecode"),
    "NO_MKDOCS_2_WARNING": "1",
}

MEASURED = (
    "model_step",
    "family_overhead",
    "algebra",
    "losses",
    "estimators",
    "memory",
    "sequences",
    "flows",
    "densities",
    "digits_flows",
    "gan",
    "mode_collapse",
    "digits_gan",
    "gpu",
)

RAISED = ROOT / ".nox" / "raised"
"""What each session of tests writes: the raise statements that it ran."""

LONGEST = ["distributions", "core", "models", "losses", "flows"]
"""The packages whose tests take longest: they begin first, so that no core waits at the end."""

nox.options.sessions = [
    "docs",
    *[f"tests({part}, cpu)" for part in [*LONGEST, *(part for part in PROJECTS if part not in LONGEST)]],
    "alone",
    "types",
    "doctests",
    "lint",
    "arrows",
    "raises",
]


def pip(session: nox.Session, *what: str) -> None:
    """Installs, with torch as constraints.txt or PIXYZ_TORCH has it."""
    constraints = ROOT / "constraints.txt"
    if "PIXYZ_TORCH" in os.environ:
        constraints = Path(session.create_tmp()) / "constraints.txt"
        constraints.write_text(os.environ["PIXYZ_TORCH"] + "\n", encoding="utf-8")
    session.install("--no-compile", "--constraint", str(constraints), *what)


def group(name: str) -> tuple[str, ...]:
    """What a dependency group of the root pyproject.toml holds."""
    return nox.project.dependency_groups(ROOT_PROJECT, name)


def in_dev(session: nox.Session, command: str, *arguments: str, **variables: str) -> None:
    """Runs a command of the environment `dev`; `variables` are added to those of the environment."""
    env = {**ENVIRONMENT, "PATH": f"{DEV}{os.pathsep}{os.environ['PATH']}", **variables}
    session.run(str(DEV / command), *arguments, external=True, env=env)


def declared_siblings(part: str) -> set[str]:
    """The parts that a part's wheel declares, in one step."""
    found = [re.match(r"pixyz-([a-z-]+)", requirement) for requirement in PROJECTS[part].get("dependencies", [])]
    return {match[1] for match in found if match}


@nox.session
def dev(session: nox.Session) -> None:
    """The environment for daily work: every package editable, every tool. Activate it with: source .nox/dev/bin/activate"""
    requirements = set(group("dev"))
    for project in PROJECTS.values():
        requirements.update(project.get("dependencies", []), *project.get("optional-dependencies", {}).values())
    pip(session, *sorted(r for r in requirements if not r.startswith("pixyz-")))
    editable = [argument for folder in FOLDERS.values() for argument in ("--editable", str(folder))]
    session.install("--no-build-isolation", "--no-deps", *editable)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting, spelling, broken files: the hooks of pre-commit, on all files."""
    session.install(*group("lint"))
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def types(session: nox.Session) -> None:
    """Types: basedpyright, strict on public signatures."""
    in_dev(session, "basedpyright", "--pythonpath", str(DEV / "python"), *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def arrows(session: nox.Session) -> None:
    """Imports run one way: between packages as their pyprojects declare, within a package without circles, in the core room by room."""
    contracts = [*ROOT_PROJECT["tool"]["importlinter"]["contracts"]]
    modules = {part: "pixyz." + part.replace("-", "_") for part in WITH_CODE}
    contracts.append({"name": "no circles", "type": "acyclic_siblings", "ancestors": list(modules.values())})
    for part, module in modules.items():
        allowed = {part, *declared_siblings(part)}
        forbidden = [other for sibling, other in modules.items() if sibling not in allowed]
        name = f"{module} imports no sibling but {', '.join(sorted(allowed - {part})) or 'none'}"
        contracts.append(
            {
                "name": name,
                "type": "forbidden",
                "source_modules": [module],
                "forbidden_modules": forbidden,
                "allow_indirect_imports": "true",
            }
        )
    ini = configparser.ConfigParser(interpolation=None)
    ini["importlinter"] = {"root_packages": "\n" + "\n".join(modules.values()), "exclude_type_checking_imports": "true"}
    for number, contract in enumerate(contracts):
        ini[f"importlinter:contract:{number}"] = {k: "\n" + "\n".join(v) if isinstance(v, list) else str(v) for k, v in contract.items()}
    config = Path(session.create_tmp()) / "importlinter.ini"
    with config.open("w", encoding="utf-8") as file:
        ini.write(file)
    in_dev(session, "lint-imports", "--no-cache", "--config", str(config))


@nox.session
def wheels(session: nox.Session) -> None:
    """The wheel of every package, into dist/, with every file of its source."""
    session.install("hatchling>=1.27")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for folder in FOLDERS.values():
        with session.chdir(folder):
            session.run("python", "-m", "hatchling", "build", "--target", "wheel", "--directory", str(ROOT / "dist"), silent=True)
        (wheel,) = (ROOT / "dist").glob(f"{folder.name.replace('-', '_')}-*.whl")
        source = folder / "src"
        wanted = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        if missing := wanted - set(zipfile.ZipFile(wheel).namelist()):
            session.error(f"{wheel.name} lacks {', '.join(sorted(missing))}.")


@nox.session(requires=["wheels"], reuse_venv=False)
def alone(session: nox.Session) -> None:
    """Each package imports from its wheel, with nothing but what it declares."""
    pip(session, "--find-links", "dist", "packaging", *(project["name"] for project in PROJECTS.values()))
    for project in PROJECTS.values():
        session.run("python", "tests/alone.py", project["name"], env=ENVIRONMENT)


@nox.session(venv_backend="none", requires=["dev"])
@nox.parametrize("device", [nox.param(device, id=device) for device in ("cpu", "cuda")])
@nox.parametrize("package", [nox.param(part, id=part) for part in PROJECTS])
def tests(session: nox.Session, package: str, device: str) -> None:
    """The tests of one package, with only what its extra [test] declares. Arguments go to pytest: nox -s "tests(gan, cpu)" -- -n 2"""
    if device == "cuda":
        need_cuda(session)
    command = ["pytest", f"tests/{package}", "--part", package, "--device", device, "--cpu-seconds", "5", *session.posargs]
    if device == "cpu" and not session.posargs:
        with recorded(package) as variables:
            in_dev(session, *command, **variables)
    else:
        in_dev(session, *command)


@contextlib.contextmanager
def recorded(package: str) -> Iterator[dict[str, str]]:
    """The environment variables with which Python records the raise statements that it runs; the record ends when all tests have passed."""
    record = RAISED / f"{package}.txt"
    record.unlink(missing_ok=True)
    folders = [str(ROOT / "tests" / "raised"), *filter(None, [os.environ.get("PYTHONPATH")])]
    yield {"PIXYZ_RAISED": str(record), "PYTHONPATH": os.pathsep.join(folders)}
    with record.open("a", encoding="utf-8") as file:
        file.write("complete\n")


@nox.session(venv_backend="none", requires=["dev", *(f"tests({part}, cpu)" for part in PROJECTS)])
def raises(session: nox.Session) -> None:
    """Every `raise` of the packages is run by a test."""
    in_dev(session, "python", "tests/raised/every_raise.py", str(RAISED), *PROJECTS)


def need_cuda(session: nox.Session) -> None:
    """Skips the session where there is no GPU, and ends it where there is one that torch does not see: all tests would be skipped."""
    smi = shutil.which("nvidia-smi")
    if smi is None or subprocess.run([smi, "--list-gpus"], capture_output=True, check=False).returncode:
        session.skip("there is no CUDA device here: nvidia-smi lists none")
    seen = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    if subprocess.run([DEV / "python", "-c", seen], check=False).returncode:
        session.error(
            'torch in .nox/dev sees no GPU. Install a build for CUDA: PIXYZ_TORCH="torch==2.13.0" nox -s dev, from an index that has it.'
        )


@nox.session(venv_backend="none", requires=["dev"])
def gpu(session: nox.Session) -> None:
    """The tests marked gpu, which import only torch, numpy and pytest. Arguments go to pytest: nox -s gpu -- --device elsewhere"""
    in_dev(session, "pytest", "tests", "-m", "gpu", "--bare", "--cpu-seconds", "5", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def doctests(session: nox.Session) -> None:
    """The examples in the docstrings run, and print what they say."""
    in_dev(session, "pytest", "--doctest-modules", "packages", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def docs(session: nox.Session) -> None:
    """The site, into site/: its code is run, its links are checked, its pages are looked at where there is a browser."""
    in_dev(session, "mkdocs", "build", "--strict", "--site-dir", "site")
    in_dev(session, "pytest", "tests/site", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def gallery(session: nox.Session) -> None:
    """The programs of all pages, from nothing, compared with their kept results. To renew two of these: nox -s gallery -- --keep vae gmm"""
    in_dev(session, "python", "docs/run_programs.py", *session.posargs)
    if not session.posargs:  # no step of any of their models waits for a device
        in_dev(session, "python", "tests/programs.py")


@nox.session(venv_backend="none", requires=["dev"])
def demo(session: nox.Session) -> None:
    """Trains a VAE on digits, about a minute. Arguments go to the demo: nox -s demo -- --epochs 10"""
    in_dev(session, "python", "docs/gallery/vae.py", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"], allow_parallel=False)
@nox.parametrize("what", [nox.param(what, id=what) for what in MEASURED])
def benchmarks(session: nox.Session, what: str) -> None:
    """What we cost beside hand-written PyTorch. Arguments go to the benchmark."""
    in_dev(session, "python", f"tests/benchmarks/{what}.py", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def reference(session: nox.Session) -> None:
    """Values and gradients of several hundred losses beside their table. Arguments: nox -s reference -- --write ELBO"""
    in_dev(session, "python", "tests/reference/values.py", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def digits(session: nox.Session) -> None:
    """Many corners of every family against mpmath, beside torch and scipy; minutes. Arguments: nox -s digits -- --write --only Gamma"""
    in_dev(session, "python", "tests/digits/run.py", *session.posargs)


@nox.session(venv_backend="none", requires=["dev"])
def soak(session: nox.Session) -> None:
    """The long runs: trainings killed 20 times and of 10,000 steps, 3,000 changes to a checkpoint, 2,000 random graphs.

    Arguments: nox -s soak -- --kills 50 --steps 100000 -k GAN
    """
    long = ["tests/all/test_killed.py", "tests/all/test_memory_of_trainings.py", "tests/models/test_mutations.py"]
    in_dev(session, "pytest", *long, "--kills", "20", "--steps", "10000", "--changes", "3000", *session.posargs)
    in_dev(session, "pytest", "tests/core/test_finite_marginals.py", "--hypothesis-profile", "long")


@nox.session(venv_backend="none", requires=["dev"])
def fuzz(session: nox.Session) -> None:
    """Random formulas against an evaluator in the tests: nox -s fuzz -- --examples 100000 [--seed S] [--world NAME]; see tests/formulas"""
    with_tests = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    in_dev(session, "python", "-m", "formulas", *session.posargs, PYTHONPATH=with_tests)


@nox.session(requires=["dev"])
def mutants(session: nox.Session) -> None:
    """A sample of 600 changes of the library, one at a time: which does no test notice? Arguments: nox -s mutants -- --report"""
    pip(session, *group("mutants"))
    # Its environment holds the tool; torch and what the tests import are those of `dev`, without this library, which is changed in a copy.
    packages = session.run(str(DEV / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", external=True, silent=True)
    path = os.pathsep.join([str(ROOT / "tests"), str(packages).strip()])
    session.run("python", "-m", "mutants", *session.posargs, env={**ENVIRONMENT, "PYTHONPATH": path})


@nox.session(venv_backend="none")
def bump(session: nox.Session) -> None:
    """Sets one version everywhere: nox -s bump -- 1.1.0"""
    if len(session.posargs) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", session.posargs[0]):
        session.error("Say which version, like 1.1.0 or 1.1.0rc1: nox -s bump -- 1.1.0")
    (new,) = session.posargs
    for path in [*(folder / "pyproject.toml" for folder in FOLDERS.values()), ROOT / "CITATION.cff"]:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r'(?m)^version( = |: )".*"$', rf'version\1"{new}"', text)
        path.write_text(re.sub(r'"(pixyz-[a-z-]+)==[^"]*"', rf'"\1=={new}"', text), encoding="utf-8")
