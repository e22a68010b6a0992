"""Log lines of a server, on standard error: plain, or as one JSON object each."""

import json
import logging
import time
from typing import Literal

LogFormat = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")


class _Json(logging.Formatter):
    """One object a line: time, level, logger, event, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)  # no line break or control sign gets through


class _Text(logging.Formatter):
    """Time, level, event, then ``name=value`` of its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {k}={v}" for k, v in getattr(record, "fields", {}).items())
        said = (
            f"{time.strftime('%H:%M:%S', time.gmtime(record.created))} {record.levelname.lower()}"
        )
        line = f"{said} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logs(log_format: LogFormat, level: str) -> None:
    """Puts this program's log lines into a format; other libraries' only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("sparsight", "serving", "vlm", "sparse_encoder"):
        logging.getLogger(name).setLevel(level.upper())
