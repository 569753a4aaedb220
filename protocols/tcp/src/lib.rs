//! Raw TCP: accept, pick a node, relay both ways.
