"""The sections of the forms: to add one, write a file and add its entry to ``SECTIONS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ui.form import drafts, image_guidance, show_me, variations
from ui.form.form import FormSection
from ui.form.layout import FormLayout

TEXT_TO_IMAGE, IMAGE_TO_IMAGE = "text-to-image", "image-to-image"


@dataclass(frozen=True)
class SectionEntry:
    """Where a section stands.

    Attributes:
        build: lays the section out.
        tabs: ids of the tabs whose forms have it.
        css: its style sheets, by their paths inside ``ui``.
        above_settings: above the Settings accordion, else below it.
    """

    build: Callable[[FormLayout], FormSection]
    tabs: tuple[str, ...]
    css: tuple[str, ...] = ()
    above_settings: bool = False


# In the order in which they are laid out; of two sections that give the same field, the later one counts.
SECTIONS: Mapping[str, SectionEntry] = {
    "drafts": SectionEntry(drafts.build, (TEXT_TO_IMAGE,), ("form/drafts.css",), above_settings=True),
    "variations": SectionEntry(variations.build, (TEXT_TO_IMAGE,), ("form/variations.css",)),
    "image_guidance": SectionEntry(image_guidance.build, (TEXT_TO_IMAGE, IMAGE_TO_IMAGE)),
    "show_me": SectionEntry(show_me.build, (TEXT_TO_IMAGE, IMAGE_TO_IMAGE), show_me.STYLES),
}


def settings_and_sections(layout: FormLayout, tab: str) -> None:
    """Lay out the Settings accordion and the sections of a tab, above and below it."""
    entries = [entry for entry in SECTIONS.values() if tab in entry.tabs]
    for entry in entries:
        if entry.above_settings:
            layout.sections.append(entry.build(layout))
    layout.settings()
    for entry in entries:
        if not entry.above_settings:
            layout.sections.append(entry.build(layout))
