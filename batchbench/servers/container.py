"""A PostgreSQL in a container, through testcontainers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from batchbench.config import docker_host
from batchbench.errors import ConfigError, ServerError

DEFAULT_IMAGE = "postgres:17"


def _container_class() -> Any:
    """PostgresContainer of the installed testcontainers. Raises ConfigError without it."""
    # The module moved in 4.15; the old name still works there, with a warning.
    for module in ("testcontainers.community.postgres", "testcontainers.postgres"):
        try:
            return importlib.import_module(module).PostgresContainer
        except ModuleNotFoundError:
            continue
    raise ConfigError(
        "a container server needs the package testcontainers, which is not installed: "
        "pip install 'batchbench[container]', or use --server embedded"
    )


@contextmanager
def open_container(image: str) -> Iterator[str]:
    """The DSN of a server in a container of the image; the container is removed at the end.

    Raises ServerError where no Docker engine answers or the image does not start.
    """
    postgres_container = _container_class()
    errors = importlib.import_module("docker.errors")  # a dependency of testcontainers
    try:
        container = postgres_container(image, driver=None)
        container.start()
    except errors.APIError as error:
        raise ServerError(
            f"the Docker engine could not start {image}: {error.explanation or error}; "
            "check the image's name and that it can be pulled"
        ) from error
    except errors.DockerException as error:
        raise ServerError(
            f"--server container:{image} needs a Docker engine and none answers at "
            f"{docker_host()}: start Docker (or set DOCKER_HOST), or use --server embedded or --dsn"
        ) from error
    except TimeoutError as error:
        container.stop()
        raise ServerError(f"no server answered in a container of {image}: {error}") from error
    try:
        yield str(container.get_connection_url())
    finally:
        container.stop()
