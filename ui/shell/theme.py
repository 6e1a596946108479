"""Colours, type and spacing: a stock theme (bundled fonts) with the project's tokens."""

from __future__ import annotations

import gradio as gr

from ui.components.assets import UI
from ui.components.data_uri import font_uri

# One accent: teal, dark enough for white text on it (5.5:1), light enough on dark grounds (9:1).
ACCENT = gr.themes.colors.teal
# The face of explanations.  Gradio brings a Lora of its own whose files hold Cyrillic letters alone.
READING_FACE = "shell/fonts/lora-latin-400.woff2"


def theme() -> gr.themes.Default:
    """The theme, light and dark."""
    return gr.themes.Default(  # the bundled semi-bold files lack most letters; regular and bold are whole
        primary_hue=ACCENT,
        neutral_hue=gr.themes.colors.zinc,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    ).set(
        body_background_fill="#f6f6f4",
        body_background_fill_dark="#111114",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_title_text_weight="700",
        # 16 for text, 13 for help.
        block_title_text_size="16px",
        input_text_size="16px",
        checkbox_label_text_size="16px",
        block_label_text_size="13px",
        section_header_text_size="13px",
        prose_text_size="16px",
        button_large_text_size="16px",
        button_medium_text_size="16px",
        button_small_text_size="16px",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        block_info_text_size="13px",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_700",
        input_border_color_focus_dark="*primary_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        # As --accent in page.css.
        button_primary_background_fill_dark="#4fd1c0",
        button_primary_background_fill_hover_dark="*primary_300",
        button_cancel_background_fill="*neutral_800",
        button_cancel_background_fill_hover="*neutral_700",
        button_cancel_background_fill_dark="*neutral_200",
        button_cancel_background_fill_hover_dark="*neutral_300",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="*neutral_950",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_950",
        slider_color="*primary_700",
        slider_color_dark="*primary_300",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_400",
    )


def reading_face() -> str:
    """The style that brings the face of explanations; within the page, so that it takes no other request."""
    source = f"url({font_uri((UI / READING_FACE).read_bytes())}) format('woff2')"
    return f"@font-face {{ font-family: Lora; font-weight: 400; font-display: swap; src: {source}; }}"
