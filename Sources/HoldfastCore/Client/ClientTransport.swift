/// How a line gets to the server.
///
/// All but a WebSocket are HTTP: nothing is connected, and what the server says comes as the answer to a request that
/// listens.
public enum ClientTransport: String, Sendable, CaseIterable {
    case websocket
    /// One answer without an end.
    case stream
    /// One request after the other, each answered when there is something to say.
    case poll
}

/// What is known of WebSockets on the way to the server.
public enum WebSocketStanding: String, Sendable, CaseIterable {
    case unknown
    /// One carries the session.
    case works
    /// They do not get through, while HTTP does.
    case blocked
    /// They died young, so none is tried for a while.
    case resting
}
