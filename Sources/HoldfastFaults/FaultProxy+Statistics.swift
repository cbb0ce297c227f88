extension FaultProxy {
    /// Counts since the start, but for `cut` and `connectionsOpen`. Bytes are those of TCP's payload.
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

        /// Lost in a cut, or sent later on a connection that had lost something in this direction.
        public var bytesSwallowedToServer = 0
        public var bytesSwallowedToClient = 0
        /// FINs and RSTs that the other side has never heard of.
        public var endsSwallowed = 0

        public init() {}
    }
}
