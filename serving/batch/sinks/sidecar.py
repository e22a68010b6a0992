"""A file beside each photograph: captions as text, or XMP with IPTC's fields."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from serving.batch.fetch import is_remote
from serving.batch.journal import FULL, Journal
from serving.batch.result import Result
from serving.batch.sinks.full_disk import MARK, full_disk_stops
from sparse_encoder.whole_file import write_whole

Kind = Literal["txt", "xmp"]

# Adobe's packet wrapper (XMP specification part 1, 7.3.2). Readers such as darktable look for
# PHOTO.EXT.xmp.
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:Iptc4xmpCore="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/">
{fields}   <photoshop:CaptionWriter>Sparsight</photoshop:CaptionWriter>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
ONE_LANGUAGE = """   <{name}>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">{text}</rdf:li>
    </rdf:Alt>
   </{name}>
"""
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_text(captions: list[str]) -> str:
    """One caption a line."""
    return "".join(" ".join(caption.split()) + "\n" for caption in captions)


def as_xmp(captions: list[str], keywords: list[str] | None = None) -> str:
    """A packet with the fields of IPTC's Photo Metadata Standard that we can fill.

    All captions are the Description, one a line; the first is the Alt Text, too; keywords are the
    Keywords; the Description Writer says whose words these are.
    """
    fields = ""
    if captions:
        whole = _escaped(as_text(captions).rstrip("\n"))
        first = _escaped(as_text(captions[:1]).rstrip("\n"))
        fields += ONE_LANGUAGE.format(name="dc:description", text=whole)
        fields += ONE_LANGUAGE.format(name="Iptc4xmpCore:AltTextAccessibility", text=first)
    if keywords:
        words = "".join(f"     <rdf:li>{_escaped(word)}</rdf:li>\n" for word in keywords)
        fields += f"   <dc:subject>\n    <rdf:Bag>\n{words}    </rdf:Bag>\n   </dc:subject>\n"
    return XMP.format(fields=fields)


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


class Sidecars:
    """Writes ``PHOTO.txt`` (in place of the ending) or ``PHOTO.EXT.xmp``.

    A file that is there already and holds something else is somebody's work: without `overwrite`
    it is left alone and the photograph is a failure.
    """

    needs_data = False

    def __init__(self, kind: Kind, *, overwrite: bool = False) -> None:
        self._kind = kind
        self._overwrite = overwrite

    def path(self, name: str) -> Path:
        """Where the sidecar of this photograph lies."""
        photo = Path(name)
        return photo.with_suffix(".txt") if self._kind == "txt" else Path(f"{name}.xmp")

    def refuses(self, name: str) -> str | None:
        if is_remote(name) or not os.path.isfile(name):
            return f"has no place for a .{self._kind} sidecar: it is no file in a folder here"
        folder = os.path.dirname(name) or "."
        if not os.access(folder, os.W_OK):
            return f"the folder {folder} cannot be written, so there is no place for a sidecar"
        return None

    def before(self, result: Result, data: bytes | None) -> str | None:
        path = self.path(result.path)
        if self._kind == "txt":
            text = as_text(result.captions)
        else:
            text = as_xmp(result.captions, result.keywords)
        content = text.encode("utf-8", "replace")
        with full_disk_stops(str(path)):
            try:
                if path.exists():
                    if path.read_bytes() == content:
                        return None
                    if not self._overwrite:
                        return f"{path} holds something else; --force would replace it"
                write_whole(path, content, mark=MARK)
            except OSError as error:
                if error.errno in FULL:
                    raise
                return f"the sidecar {path} cannot be written ({error.strerror})"
        return None

    def make_up(self, journal: Journal) -> Iterator[Result]:
        """Writes the sidecars of earlier results; gives those that could not be, as errors."""
        for result in journal.good():
            why = self.refuses(result.path) or self.before(result, None)
            if why is not None:
                yield Result(result.path, error=why)

    def after(self, result: Result) -> None:
        pass

    def close(self) -> None:
        pass
