import NIOCore

/// Writes the events that go to clients, as JSON text.
///
/// Keys stand in SocketShark's order (socketshark.md §3.3); native members come after those that both dialects have.
public enum ServerEvent {
    /// The reply to a `hello` that opened or resumed a session.
    public struct Hello: Sendable {
        public var session: SessionName
        /// `nil` for a new session; else how many events of the client the resumed session has counted.
        public var received: UInt64?
        public var heartbeat: HeartbeatAdvice
        /// Seconds over which clients should spread their return after a lost line.
        public var spread: Double
        /// Seconds that the session outlives its transport.
        public var sessionTTL: Double
        public var node: String

        public init(
            session: SessionName,
            received: UInt64?,
            heartbeat: HeartbeatAdvice,
            spread: Double,
            sessionTTL: Double,
            node: String
        ) {
            self.session = session
            self.received = received
            self.heartbeat = heartbeat
            self.spread = spread
            self.sessionTTL = sessionTTL
            self.node = node
        }
    }

    /// How the gateway wants clients to poke the line; all in seconds.
    public struct HeartbeatAdvice: Sendable, Equatable {
        public var interval: Double
        public var hiddenInterval: Double
        public var timeout: Double

        public init(interval: Double = 4, hiddenInterval: Double = 25, timeout: Double = 5) {
            self.interval = interval
            self.hiddenInterval = hiddenInterval
            self.timeout = timeout
        }
    }

    public static func hello(_ hello: Hello) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "hello")
            json.member("status", "ok")
            json.member("session", hello.session.revealed)
            json.member("resumed", hello.received != nil)
            if let received = hello.received { json.member("received", received) }
            json.member(
                "heartbeat",
                object: { json in
                    json.member("interval", number: hello.heartbeat.interval)
                    json.member("hidden_interval", number: hello.heartbeat.hiddenInterval)
                    json.member("timeout", number: hello.heartbeat.timeout)
                })
            json.member("spread", number: hello.spread)
            json.member("session_ttl", number: hello.sessionTTL)
            json.member("node", hello.node)
        }
    }

    public static let probe = JSONWriter.object { json in
        json.member("event", "probe")
        json.member("status", "ok")
    }

    /// - Parameter received: the gateway's count, for the native dialect only.
    public static func pong(data: String?, received: UInt64?) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "pong")
            if let data { json.member("data", data) } else { json.memberNull("data") }
            if let received { json.member("received", received) }
        }
    }

    public static func ack(received: UInt64) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "ack")
            json.member("received", received)
        }
    }

    /// - Parameter retryAfter: seconds, the range in which a client picks its own time to come back.
    public static func goaway(reason: String, retryAfter: ClosedRange<Double>) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "goaway")
            json.member("reason", reason)
            json.member(
                "retry_after",
                array: { json in
                    json.element(number: retryAfter.lowerBound)
                    json.element(number: retryAfter.upperBound)
                })
        }
    }

    /// - Parameters:
    ///   - after: offset of the last publication that the client has; `nil` where the epoch is new.
    ///   - next: offset of the next one that it will get; `nil` where the topic has no history.
    public static func gap(subscription: String, after: UInt64?, next: UInt64?) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "gap")
            json.member("subscription", subscription)
            if let after { json.member("after", after) } else { json.memberNull("after") }
            if let next { json.member("next", next) } else { json.memberNull("next") }
        }
    }

    /// The answer to an event of a client.
    public struct Reply: Sendable {
        /// `nil` only where the client's text had none (socketshark.md §3.1).
        public var event: String?
        public var error: ProtocolError?
        /// What the service itself gave as its error, of any kind, in place of the error's own text (socketshark.md §3.2).
        public var serviceError: JSONValue?
        /// The service's extra fields that the client gave, in the order of the configuration.
        public var extras: [JSONObject.Member] = []
        public var data: JSONValue?
        public var subscription: JSONValue?
        /// Native: the event's own `id`.
        public var id: JSONValue?
        /// Native, `subscribe` only.
        public var recovered: Bool?
        /// Native, `subscribe` only.
        public var position: Position?

        public init(event: String?, error: ProtocolError? = nil) {
            self.event = event
            self.error = error
        }
    }

    public static func reply(_ reply: Reply, dialect: Dialect) -> ByteBuffer {
        JSONWriter.object { json in
            if let event = reply.event { json.member("event", event) }
            if let error = reply.error {
                json.error(error, serviceError: reply.serviceError, dialect: dialect)
            } else {
                json.member("status", "ok")
            }
            for extra in reply.extras { json.member(extra.name, extra.value) }
            if let data = reply.data { json.member("data", data) }
            if let subscription = reply.subscription { json.member("subscription", subscription) }
            guard dialect == .native else { return }
            if let id = reply.id { json.member("id", id) }
            if let recovered = reply.recovered { json.member("recovered", recovered) }
            if let position = reply.position { json.member("position", position) }
        }
    }

    /// The gateway has ended a subscription: its service no longer allows it (socketshark.md §5.5).
    public static func unsubscribe(
        _ subscription: String,
        data: JSONValue?,
        error: JSONValue,
        extras: [JSONObject.Member]
    ) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "unsubscribe")
            json.member("subscription", subscription)
            if let data { json.member("data", data) }
            json.member("error", error)
            for extra in extras { json.member(extra.name, extra.value) }
        }
    }
}
