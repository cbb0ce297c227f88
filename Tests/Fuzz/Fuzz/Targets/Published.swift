import NIOCore

@testable import HoldfastBroker
@testable import HoldfastCore
@testable import HoldfastProtocol

extension FuzzTarget {
    static let published = FuzzTarget(
        name: "published",
        about: "messages of backends, line by line, through filter and history to the client: data byte for byte",
        maxBytes: 4096
    ) { bytes in
        var topic = FuzzedTopic()
        for line in bytes.lines { topic.take(ByteBuffer(bytes: line)) }
    }
}

/// The way of a message from Redis, or from `POST /api/publish`, to the events that clients get.
private struct FuzzedTopic {
    private var store = MemoryStore(limits: Self.limits, epoch: "e")
    private var filter = DeliveryFilter<UInt64>(limit: 3)
    private var now: Int64 = 1_000_000
    private var count: UInt64 = 0

    private static let filterFields = ["user_id", "room"]
    private static let history = HistorySettings(size: 5, ttl: 60, bytes: 4000)
    private static let limits = MemoryBroker.Limits(
        historyBytes: 8000, topics: 4, idempotencyKeys: 3, idempotencyTTL: 5)

    mutating func take(_ text: ByteBuffer) {
        self.now += 700_000
        self.count += 1
        let message: PublishedMessage
        do throws(PublishedMessage.Problem) {
            message = try PublishedMessage(parsing: text)
        } catch {
            return require(!error.rawValue.isEmpty, "a problem without a name")
        }
        self.check(message)
        let conditions = message.conditions(filterFields: Self.filterFields)
        self.filter(conditions)
        var draft = PublicationDraft(
            subscription: message.subscription, data: message.data.raw, publishedAt: message.publishedAt
        )
        draft.idempotencyKey = message.object["idempotency_key"]?.string
        draft.conditions = conditions
        let known: Set = ["subscription", "data", "published_at", "idempotency_key"]
        draft.members = message.object.members.filter { !known.contains($0.name) }
        self.check(draft)
        self.publish(draft)
    }

    private func check(_ message: PublishedMessage) {
        requireSame(message.data, message.object["data"], "the payload")
        guard let publishedAt = message.publishedAt else { return }
        require(publishedAt.utf8.count <= 40, "a long time: \(publishedAt)")
        requireSame(Timestamp.reformatted(publishedAt), publishedAt, "a time, read again")
    }

    /// For Redis it is written as a message again.
    private func check(_ draft: PublicationDraft) {
        let again = try? PublishedMessage(parsing: draft.envelope)
        requireSame(again.map { Array($0.subscription.utf8) }, Array(draft.subscription.utf8), "the name in Redis")
        requireSame(again?.data.raw, draft.data, "the payload in Redis")
        requireSame(again?.publishedAt, draft.publishedAt, "the time in Redis")
        let conditions = again?.conditions(filterFields: Self.filterFields)
        requireSame(conditions, draft.conditions, "the conditions in Redis")
    }

    private mutating func filter(_ conditions: DeliveryConditions?) {
        guard let conditions else { return }
        require(conditions.fields.count <= Self.filterFields.count, "more filter fields than there are")
        require(conditions.order?.isFinite ?? true && conditions.throttle?.isFinite ?? true, "a number without end")
        let now = Instant(microseconds: self.now)
        _ = self.filter.release(now: now)
        let verdict = self.filter.admit(conditions, self.count, now: now) { $0 == "room" ? .integer(1) : .null }
        if case .hold(let until, _) = verdict {
            require(until > now && until <= now + .seconds(31_536_000), "held until \(until.microseconds)")
        }
        require(self.filter.heldCount <= 3, "more is held than keys are remembered")
    }

    private mutating func publish(_ draft: PublicationDraft) {
        let sent: PublishReceipt
        do throws(BrokerError) {
            sent = try self.store.publish(
                draft, history: Self.history, receivedAt: "2026-01-01T00:00:00+00:00", now: self.now)
        } catch {
            return require(!error.description.isEmpty, "an error without words")
        }
        let page = self.store.history(draft.subscription, since: nil, limit: 10, now: self.now)
        require(page.publications.count <= Self.history.size, "a history over its size")
        guard let last = page.publications.last, last.id == sent.id else { return }
        requireSame(last.data, draft.data, "the payload in the history")
        for dialect in Dialect.allCases {
            let event = WireEvent(last.event(dialect: dialect, sentAt: "2026-01-01T00:00:00+00:00"))
            requireSame(event.data, draft.data, "the payload of the event")
            requireSame(event.subscription.map { Array($0.utf8) }, Array(draft.subscription.utf8), "the event's name")
        }
        let statistics = self.store.statistics
        require(statistics.topics <= 4 && statistics.idempotencyKeys <= 3, "more topics or keys than the limit")
    }
}
