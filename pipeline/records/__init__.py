"""Records: sharded TFRecord files, the manifest that vouches for them, and their readers."""
