import Foundation
import HoldfastProtocol
import Synchronization

extension HoldfastClient {
    /// A subscription, from ``HoldfastClient/subscribe(_:since:fields:buffer:)``. It survives lost lines and lost sessions.
    ///
    /// ```swift
    /// for try await message in subscription { show(message) }
    /// ```
    /// gives the messages from the call of `subscribe` on; a second loop over the same subscription gives those from its own
    /// beginning on. A loop ends when the subscription ends or the client is closed by the app, and throws where the gateway ends
    /// either of them. The subscription ends by ``unsubscribe()``, and when nobody holds it any more.
    public final class Subscription: AsyncSequence, Sendable {
        public typealias Element = Message

        /// `service.topic`.
        public let name: String
        /// Held, so that a client in a temporary variable lives as long as its subscription.
        private let client: HoldfastClient
        private let hold: Desk.Hold
        private let buffer: BufferPolicy
        /// That of the first loop: it keeps what comes before the loop begins.
        private let first: Mutex<InboxReader<SubscriptionEvent>?>
        private let hasEnded = Atomic(false)

        init(client: HoldfastClient, name: String, since: Position?, fields: [JSONObject.Member], buffer: BufferPolicy)
        {
            let (reader, hold) = client.desk.subscribe(name, since: since, fields: fields, buffer: buffer)
            self.client = client
            self.name = name
            self.hold = hold
            self.buffer = buffer
            self.first = Mutex(reader)
        }

        deinit {
            self.end()
        }

        /// Waits until the gateway has confirmed the subscription.
        /// - Throws: ``HoldfastError`` if it refuses.
        @discardableResult
        public func ready() async throws -> Confirmation {
            try await self.client.desk.confirmation(self.hold)
        }

        /// The position of the newest message that went to the loops' buffers. For the last one that the app has handled, keep
        /// ``Message/position``.
        public var position: Position? { self.client.desk.position(self.hold) }

        /// Ends the subscription for this holder: its loops end, and others of the same name go on.
        public func unsubscribe() {
            self.end()
        }

        private func end() {
            guard !self.hasEnded.exchange(true, ordering: .relaxed) else { return }
            self.client.desk.release(self.hold)
        }

        /// Sends a message to the subscription's service. See ``HoldfastClient/message(_:to:fields:encoder:)``.
        @discardableResult
        public func message(
            _ payload: some Encodable & Sendable,
            fields: [String: JSONValue] = [:],
            encoder: JSONEncoder = JSONEncoder()
        ) async throws -> Reply {
            try await self.client.message(payload, to: self.name, fields: fields, encoder: encoder)
        }

        fileprivate func reader() -> InboxReader<SubscriptionEvent> {
            let first = self.first.withLock { first in
                defer { first = nil }
                return first
            }
            return first ?? self.client.desk.reader(self.hold, buffer: self.buffer)
        }

        public struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate var events: Events.AsyncIterator

            public mutating func next() async throws -> Message? {
                while let event = try await self.events.next() {
                    if case .message(let message) = event { return message }
                }
                return nil
            }
        }

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(events: self.events.makeAsyncIterator()) }

        /// Messages, and what happens between them: gaps, recoveries, confirmations.
        public var events: Events { Events(subscription: self) }

        /// What happens to a subscription, for one loop. See ``HoldfastClient/Subscription/events``.
        public struct Events: AsyncSequence, Sendable {
            public typealias Element = SubscriptionEvent

            let subscription: Subscription

            public struct AsyncIterator: AsyncIteratorProtocol {
                let subscription: Subscription
                let reader: InboxReader<SubscriptionEvent>

                public mutating func next() async throws -> SubscriptionEvent? { try await self.reader.inbox.next() }
            }

            public func makeAsyncIterator() -> AsyncIterator {
                AsyncIterator(subscription: self.subscription, reader: self.subscription.reader())
            }
        }
    }

    /// A subscription whose messages are decoded.
    public struct TypedSubscription<Payload: Decodable & Sendable>: AsyncSequence, Sendable {
        public typealias Element = TypedMessage<Payload>

        /// For all but the messages.
        public let subscription: Subscription
        let decoder: JSONDecoder

        public struct AsyncIterator: AsyncIteratorProtocol {
            var messages: Subscription.AsyncIterator
            let decoder: JSONDecoder

            public mutating func next() async throws -> TypedMessage<Payload>? {
                guard let message = try await self.messages.next() else { return nil }
                return TypedMessage(payload: try message.decode(Payload.self, using: self.decoder), message: message)
            }
        }

        public func makeAsyncIterator() -> AsyncIterator {
            AsyncIterator(messages: self.subscription.makeAsyncIterator(), decoder: self.decoder)
        }

        /// See ``Subscription/ready()``.
        @discardableResult
        public func ready() async throws -> Confirmation { try await self.subscription.ready() }

        /// `service.topic`.
        public var name: String { self.subscription.name }

        /// See ``Subscription/message(_:fields:encoder:)``.
        @discardableResult
        public func message(
            _ payload: some Encodable & Sendable,
            fields: [String: JSONValue] = [:],
            encoder: JSONEncoder = JSONEncoder()
        ) async throws -> Reply {
            try await self.subscription.message(payload, fields: fields, encoder: encoder)
        }

        /// See ``Subscription/unsubscribe()``.
        public func unsubscribe() { self.subscription.unsubscribe() }
    }
}
