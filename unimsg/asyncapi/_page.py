def to_html(document):
    return ""
