"""What can go wrong, as the scripts and the runner tell it apart."""


class RequestedAssertionFailed(Exception):
    """What the script asked for is not so: its test fails. The name is the NixOS driver's."""


class MachineError(Exception):
    """The machinery failed: QEMU, the shell in the guest, the image. The name is the NixOS driver's."""


class ScenarioTimeout(BaseException):
    """A scenario took longer than it may. No script can catch it by catching Exception."""


class CannotRunHere(Exception):
    """This computer cannot run the checks; the text says why in one line."""
