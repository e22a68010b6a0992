"""Sentences around a label, so that the text tower reads it as it reads captions."""

LABEL_TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a picture of the {}.",
    "there is a {} in the photo.",
    "a close-up of a {}.",
    "The main subject is a {}.",
    "a {} in the wild",
    "a blurry photo of a {}.",
)

ZEROSHOT_TEMPLATES = LABEL_TEMPLATES[:6]
