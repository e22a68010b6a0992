"""A steered caption with the official client: ``python openai_client.py PHOTO``.

Needs ``pip install openai`` and a gateway: ``sparsight serve``. OPENAI_BASE_URL and OPENAI_API_KEY, where
they are set, say where it is and who asks.
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "not-needed"),
)
data = base64.b64encode(Path(sys.argv[1]).read_bytes()).decode()
answer = client.chat.completions.create(
    model="sparsight-mini",
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
                {"type": "text", "text": "Describe the image in one sentence."},
            ],
        }
    ],
    extra_body={
        "steering": {
            "edits": [
                {"concept": "cat", "op": "ablate"},
                {"concept": "dog", "op": "clamp", "value": 1.0},
            ]
        }
    },
)
print(answer.choices[0].message.content)
