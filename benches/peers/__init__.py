"""The tools that benches/supervisors.py compares, one a file, in the order of the table."""

from .bash_tmux import BashTmux
from .circus import Circus
from .monit import Monit
from .ours import Ours
from .pm2 import Pm2
from .runit import Runit
from .s6 import S6
from .supervisord import Supervisord
from .tool import Tool

__all__ = ["ALL", "Ours", "Tool"]

ALL: list[type[Tool]] = [Ours, Supervisord, Runit, S6, Monit, Pm2, Circus, BashTmux]
