extension FaultProxy {
    /// Counts since the start, but for `cut`, `connectionsOpen` and `bytesHeld`. Bytes are those of TCP's payload.
    public struct Statistics: Sendable, Hashable {
        /// The directions in which nothing arrives just now.
        public var cut: Directions = []

        public var connectionsOpen = 0
        public var connectionsTotal = 0
        /// Beyond ``FaultProxy/Configuration/connectionLimit``.
        public var connectionsRefused = 0

        /// Passed on.
        public var bytesToServer = 0
        public var bytesToClient = 0
        /// Wait here now, because the line is slow or a response is buffered.
        public var bytesHeld = 0
        public var bytesCorrupted = 0

        /// Lost in a cut or after an upgrade that was passed to fall silent, or sent later on a connection that had
        /// lost something in this direction; requests that were answered here.
        public var bytesSwallowedToServer = 0
        public var bytesSwallowedToClient = 0
        /// FINs and RSTs that the other side has never heard of.
        public var endsSwallowed = 0

        /// Answered, left hanging or reset by the proxy.
        public var upgradesRefused = 0
        /// Of which the server made a WebSocket or another tunnel.
        public var upgradesPassed = 0
        public var requestsDuplicated = 0

        public init() {}
    }
}

extension FaultProxy.Statistics: Encodable {
    private enum CodingKeys: String, CodingKey {
        case cut
        case connectionsOpen = "connections-open"
        case connectionsTotal = "connections-total"
        case connectionsRefused = "connections-refused"
        case bytesToServer = "bytes-to-server"
        case bytesToClient = "bytes-to-client"
        case bytesHeld = "bytes-held"
        case bytesCorrupted = "bytes-corrupted"
        case bytesSwallowedToServer = "bytes-swallowed-to-server"
        case bytesSwallowedToClient = "bytes-swallowed-to-client"
        case endsSwallowed = "ends-swallowed"
        case upgradesRefused = "upgrades-refused"
        case upgradesPassed = "upgrades-passed"
        case requestsDuplicated = "requests-duplicated"
    }
}

extension Directions: Encodable {
    public func encode(to encoder: any Encoder) throws {
        var value = encoder.singleValueContainer()
        try value.encode(self.name)
    }
}
