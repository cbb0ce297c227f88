import NIOCore

extension RESPLink {
    /// How long to wait before connecting again.
    ///
    /// Full jitter, as links that were lost together would come back together otherwise. The first try after a loss comes
    /// within `base`.
    public struct Backoff: Sendable, Equatable {
        /// Seconds.
        public var base: Double
        /// Seconds. A connection that lived as long as this starts the count again.
        public var cap: Double

        public init(base: Double = 0.1, cap: Double = 5) {
            self.base = base
            self.cap = cap
        }

        /// - Parameters:
        ///   - failures: in a row, before this one.
        ///   - random: in 0..<1.
        func delay(failures: Int, random: Double) -> TimeAmount {
            let longest = min(self.cap, self.base * Double(1 << min(failures, 30)))
            return .bounded(seconds: longest * random)
        }
    }

    /// When a connection counts as dead. Seconds; `nil` for never.
    public struct Liveness: Sendable, Equatable {
        /// From one PING to the next.
        public var pingInterval: Double?
        /// Without a byte from the server.
        public var pingTimeout: Double?

        public init(pingInterval: Double? = 10, pingTimeout: Double? = 5) {
            self.pingInterval = pingInterval
            self.pingTimeout = pingTimeout
        }

        public static var none: Liveness { Liveness(pingInterval: nil, pingTimeout: nil) }
    }
}

extension TimeAmount {
    /// - Parameter seconds: whatever cannot be, as the negative, is nothing; more than a year is a year.
    static func bounded(seconds: Double) -> TimeAmount {
        guard seconds > 0 else { return .nanoseconds(0) }
        return .nanoseconds(Int64(min(seconds, 31_536_000) * 1e9))
    }
}
