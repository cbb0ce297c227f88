"""A SocketShark configuration: `PYTHONPATH=. socketshark -c shark_config` runs with it as it stands."""

backend = "http://127.0.0.1:8000"

WS_HOST = "127.0.0.1"
WS_PORT = "9000"
WS_PING = {"interval": 15, "timeout": 15}
REDIS = {"host": "127.0.0.1", "port": 6379, "channel_prefix": ""}
HTTP = {"timeout": 5, "tries": 2, "wait": 0.5}
AUTHENTICATION = {
    "ticket": {"validation_url": f"{backend}/ticket", "auth_fields": ["user_id"]},
}
SERVICES = {
    "calls": {
        "authorizer": f"{backend}/authorize",
        "authorization_renewal_period": 60,
        "filter_fields": ["user_id"],
        "before_subscribe": f"{backend}/snapshot",
        "on_message": f"{backend}/message",
    },
}
