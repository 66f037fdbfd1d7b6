"""The doors: a command runs its job, and a mistake of the user's ends it with one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from omegaconf import DictConfig

from seglab.config.commandline import prepared
from seglab.config.composing import COMPOSING, conf_dir, register
from seglab.config.mistakes import explain
from seglab.errors import ConfigError, SeglabError, Stopped, disk, visible
from seglab.processes import TRACES


def door(job: Callable[[DictConfig], Any], name: str) -> None:
    """Run `job` under Hydra; an error a user can mend is printed as one sentence, and its exit code is left with.

    In a multirun the other jobs still run, unless the error ends the sweep; each failed one prints its sentence.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    failed: list[Exception] = []  # what the job itself raised

    def guarded(config: DictConfig) -> Any:
        try:
            return job(config)
        except SeglabError as error:
            failed.append(error)
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                return None  # raised through Hydra it would come with a line of Hydra's own
            print(sentence(error), file=sys.stderr)
            if error.ends_sweep:
                raise SystemExit(error.exit_code) from error  # an Exception would only end this job
            raise  # the sweeper must know
        except OSError as error:
            if disk(error) is None:  # that of a folder that cannot be written is told below
                failed.append(error)
            raise

    register()
    asked_for_trace = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ.setdefault(TRACES, str(int(asked_for_trace)))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands us the exception itself instead of printing it its own way
    try:
        sys.argv[1:] = prepared(sys.argv[1:], os.environ)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except KeyboardInterrupt:  # before the run listens to signals itself
        fail(Stopped("ended by SIGINT.", 130))
    except (SeglabError, OSError, *COMPOSING) as error:
        if isinstance(error, SeglabError) and error in failed:
            sys.exit(error.exit_code)  # of a multirun, and printed already
        if asked_for_trace or error in failed or isinstance(error, BrokenPipeError):
            raise
        fail(_mistake(error))
    finally:
        os.environ.pop("HYDRA_FULL_ERROR", None)
        os.environ.pop(TRACES, None)
    if failed and asked_for_trace:
        raise failed[0]
    if failed and isinstance(failed[0], SeglabError):
        fail(failed[0])


def _mistake(error: Exception) -> SeglabError:
    """The sentence for an error of Hydra's, or of the disk where Hydra makes the run's folder."""
    if isinstance(error, SeglabError):
        return error
    if isinstance(error, OSError) and not isinstance(error, COMPOSING):  # Hydra's word for a missing choice is an OSError
        folder = "hydra.sweep.dir" if {"-m", "--multirun"} & set(sys.argv) else "hydra.run.dir"
        what = error.filename or "The run's folder"  # a full disk is found without a name
        return ConfigError(f"{what} cannot be written ({error.strerror}); choose another folder with {folder}=DIR.")
    return ConfigError(explain(error, [a for a in sys.argv[1:] if "=" in a]))


def sentence(error: SeglabError) -> str:
    """The error as one line: its kind and what it says."""
    return f"{type(error).__name__}: {visible(str(error))}"


def fail(error: SeglabError) -> NoReturn:
    """Print the error's sentence to stderr and leave with its exit code."""
    print(sentence(error), file=sys.stderr)
    sys.exit(error.exit_code)


def plain_door(job: Callable[[list[str]], Any], doc: str | None) -> None:
    """Run a door without Hydra: help, and errors as one sentence with their exit code."""
    argv = sys.argv[1:]
    if not argv or {"-h", "--help"} & set(argv):
        print((doc or "").strip())
        sys.exit(0 if argv else 2)
    try:
        job(argv)
    except SeglabError as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Stopped("ended by SIGINT.", 130))
    except BrokenPipeError:  # the reader has seen enough
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        if (why := disk(error)) is None:
            raise
        fail(ConfigError(f"{error.filename or 'The output'} cannot be written ({why}); choose another folder with output=DIR."))
