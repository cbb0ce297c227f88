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
    /// `nil`: every subscriber gets it at once.
    public let conditions: DeliveryConditions?
    /// Not a message: here the broker may have missed some, and nobody knows how many.
    public let isGap: Bool

    public init(
        subscription: String,
        data: ByteBuffer,
        id: String,
        sequence: UInt64,
        position: Position?,
        publishedAt: String?,
        receivedAt: String,
        conditions: DeliveryConditions? = nil,
        isGap: Bool = false
    ) {
        self.subscription = subscription
        self.data = data
        self.id = id
        self.sequence = sequence
        self.position = position
        self.publishedAt = publishedAt
        self.receivedAt = receivedAt
        self.conditions = conditions
        self.isGap = isGap
    }

    /// What a native client is told of the place of a publication.
    public enum Place: Sendable, Hashable {
        /// Its own offset, which follows the one before.
        case own
        /// None: the client's position stays where it is, since an older publication is still held back by a throttle.
        case none
        /// `offset`: everything up to here has come or is not for this session. `after`: the last that the client was told,
        /// so that it does not take those in between for lost.
        case after(UInt64, offset: UInt64)
    }

    /// The event as a client gets it. Shared by all sessions of the dialect that have no extra fields and the same place.
    /// - Parameters:
    ///   - sentAt: ISO 8601, for the plain dialect; `nil` leaves out all times and `queue_size`, which SocketShark 0.5.0 had not.
    ///   - extras: the subscription's extra fields (socketshark.md §3.3).
    ///   - place: for the native dialect.
    public func event(
        dialect: Dialect,
        sentAt: String?,
        extras: [JSONObject.Member] = [],
        place: Place = .own
    ) -> ByteBuffer {
        if self.isGap {
            return ServerEvent.gap(
                subscription: self.subscription,
                // From where on is known, but not how many: no number that could be taken for one.
                after: nil,
                next: self.position.map { $0.offset + 1 }
            )
        }
        var writer = JSONWriter(
            into: ByteBufferAllocator().buffer(capacity: self.data.readableBytes + self.subscription.utf8.count + 160)
        )
        writer.object { json in
            json.member("event", "message")
            json.member("subscription", self.subscription)
            switch dialect {
            case .native:
                if let position = self.position {
                    switch place {
                    case .own: json.member("offset", position.offset)
                    case .none: break
                    case .after(let after, let offset):
                        json.member("offset", offset)
                        json.member("after", after)
                    }
                }
                json.member("data", raw: self.data)
                if let publishedAt = self.publishedAt { json.member("published_at", publishedAt) }
                for extra in extras { json.member(extra.name, extra.value) }
            case .plain:
                json.member("data", raw: self.data)
                if sentAt != nil {
                    if let publishedAt = self.publishedAt { json.member("published_at", publishedAt) }
                    json.member("received_at", self.receivedAt)
                    // The gateway hands publications over without a queue of its own per broker connection.
                    json.member("queue_size", 0)
                }
                for extra in extras { json.member(extra.name, extra.value) }
                if let sentAt { json.member("sent_at", sentAt) }
            }
        }
        return writer.buffer
    }
}
