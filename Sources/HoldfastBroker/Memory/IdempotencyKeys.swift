import DequeModule

/// Receipts of publications that named an idempotency key, for a time and up to a number.
struct IdempotencyKeys: Sendable {
    private struct Key: Hashable, Sendable {
        // Not strings: Swift takes those for equal that differ in normalization only, and the second event would be lost.
        let subscription: [UInt8]
        let key: [UInt8]

        init(_ subscription: String, _ key: String) {
            self.subscription = Array(subscription.utf8)
            self.key = Array(key.utf8)
        }
    }

    private let limit: Int
    private let ttl: Int64
    private var receipts: [Key: PublishReceipt] = [:]
    private var order = Deque<(key: Key, expires: Int64)>()

    init(limit: Int, ttl: Int64) {
        self.limit = limit
        self.ttl = ttl
    }

    var count: Int { self.receipts.count }

    mutating func receipt(_ subscription: String, _ key: String, now: Int64) -> PublishReceipt? {
        self.expire(now: now)
        return self.receipts[Key(subscription, key)]
    }

    mutating func remember(_ subscription: String, _ key: String, _ receipt: PublishReceipt, now: Int64) {
        guard self.limit > 0 else { return }
        let key = Key(subscription, key)
        while self.receipts.count >= self.limit, let oldest = self.order.popFirst() { self.receipts[oldest.key] = nil }
        self.receipts[key] = receipt
        self.order.append((key, now + self.ttl))
    }

    mutating func expire(now: Int64) {
        while let oldest = self.order.first, oldest.expires <= now {
            self.order.removeFirst()
            self.receipts[oldest.key] = nil
        }
    }
}
