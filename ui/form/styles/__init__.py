"""Styles and wildcards in the form: choosing, looking at what is sent, saving, importing, previews."""
