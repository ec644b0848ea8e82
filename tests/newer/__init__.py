"""--newer-by against a model: several writers; shuffled, doubled and late chunks."""
