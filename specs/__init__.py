"""The networks and blocks that come with the package, as YAML files."""
