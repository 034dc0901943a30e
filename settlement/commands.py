"""`cea registry …`: every act and every question of the registry on the command line (R13).

Acts need a document number; repeating one does nothing. Exit code 0: done; 1: refused or something found. Each module
adds its commands to the one application, in the order in which help shows them.
"""

from __future__ import annotations

from settlement import account_commands, compliance_commands, question_commands, day_commands  # isort: skip
from settlement.command_line import app

__all__ = ["account_commands", "app", "compliance_commands", "day_commands", "question_commands"]
