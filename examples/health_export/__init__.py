"""A small service that takes health exports by HTTP and answers for every metric in them."""
