"""A steered caption, as it is written, with LangChain: ``python langchain_chat.py PHOTO``.

Needs ``pip install langchain-openai`` and a gateway: ``sparsight serve``. OPENAI_BASE_URL and
OPENAI_API_KEY, where they are set, say where it is and who asks.
"""

import base64
import os
import sys
from pathlib import Path

from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    model="sparsight-mini",
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "not-needed"),
    extra_body={"steering": {"edits": [{"concept": "cat", "op": "ablate"}]}},
)
data = base64.b64encode(Path(sys.argv[1]).read_bytes()).decode()
message = {
    "role": "user",
    "content": [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
        {"type": "text", "text": "Describe the image in one sentence."},
    ],
}
for piece in chat.stream([message]):
    print(piece.content, end="", flush=True)
print()
