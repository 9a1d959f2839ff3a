"""What the client starts a server with."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Paths are absolute. tmp: a folder of this server's, empty; private files where the server has no /tmp of its own."""

    tmp: str
    readable: list[str]  # files and folders that programs may read
    devices: list[str]  # that programs may use
    program_path: list[str]  # programs' sys.path
    packages: list[str]  # imported before the first program
    isolated: bool = True  # False: limits only
    bubblewrap: bool = False  # bubblewrap has made the namespaces
