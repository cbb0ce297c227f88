import NIOCore

/// One published message, as the broker hands it out. Immutable and shared by everybody who gets it.
public final class Publication: Sendable {
    /// `service.topic`.
    public let subscription: String
    /// The payload's own bytes: one JSON value, never decoded.
    public let data: ByteBuffer
    /// Names the publication in the server API: unique within a broker.
    public let id: String
    /// Place in the topic, first is 1, gapless, also for topics without history.
    public let sequence: UInt64
    /// Epoch and offset for topics with history; `nil` for others.
    public let position: Position?
    /// The publisher's own time, in SocketShark's form, if it gave one that can be read.
    public let publishedAt: String?
    /// When the gateway took it, in ISO 8601 form.
    public let receivedAt: String

    public init(
        subscription: String,
        data: ByteBuffer,
        id: String,
        sequence: UInt64,
        position: Position?,
        publishedAt: String?,
        receivedAt: String
    ) {
        self.subscription = subscription
        self.data = data
        self.id = id
        self.sequence = sequence
        self.position = position
        self.publishedAt = publishedAt
        self.receivedAt = receivedAt
    }

    /// The event as a client gets it. Shared by all sessions of the dialect that have no extra fields.
    /// - Parameters:
    ///   - sentAt: ISO 8601, for the plain dialect.
    ///   - extras: the subscription's extra fields (socketshark.md §3.3).
    public func event(dialect: Dialect, sentAt: String, extras: [JSONObject.Member] = []) -> ByteBuffer {
        var writer = JSONWriter(
            into: ByteBufferAllocator().buffer(capacity: self.data.readableBytes + self.subscription.utf8.count + 160)
        )
        writer.object { json in
            json.member("event", "message")
            json.member("subscription", self.subscription)
            switch dialect {
            case .native:
                if let position = self.position { json.member("offset", position.offset) }
                json.member("data", raw: self.data)
                if let publishedAt = self.publishedAt { json.member("published_at", publishedAt) }
                for extra in extras { json.member(extra.name, extra.value) }
            case .plain:
                json.member("data", raw: self.data)
                if let publishedAt = self.publishedAt { json.member("published_at", publishedAt) }
                json.member("received_at", self.receivedAt)
                // The gateway hands publications over without a queue of its own per broker connection.
                json.member("queue_size", 0)
                for extra in extras { json.member(extra.name, extra.value) }
                json.member("sent_at", sentAt)
            }
        }
        return writer.buffer
    }
}
