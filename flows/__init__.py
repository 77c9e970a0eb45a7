"""When and where: the command line and the Prefect flows over the same engine. No arithmetic; nothing imports this package."""
