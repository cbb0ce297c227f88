import Foundation
import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOFoundationCompat

extension HoldfastClient {
    /// Messages after ``after`` and before ``next`` are lost; `nil` where a number is not known, as the history is another one or
    /// there is none.
    public struct Gap: Sendable, Equatable {
        public let subscription: String
        public let after: UInt64?
        public let next: UInt64?

        public init(subscription: String, after: UInt64?, next: UInt64?) {
            self.subscription = subscription
            self.after = after
            self.next = next
        }

        /// How many are lost, where that is known.
        public var missing: UInt64? {
            guard let after, let next, next > after else { return nil }
            return next - after - 1
        }

        /// This gap, and after it another one.
        func followed(by other: Gap) -> Gap {
            Gap(subscription: self.subscription, after: self.after, next: other.next)
        }
    }

    /// A message of a subscription, once and in order.
    public struct Message: Sendable, Equatable {
        public let subscription: String
        /// What was published: one JSON value, byte for byte.
        public let data: ByteBuffer
        /// Where the topic's stream stands with this message: hand it to ``HoldfastClient/subscribe(_:since:fields:buffer:)`` to go
        /// on after it, also after a restart of the program. `nil`: a topic without history.
        public let position: Position?
        /// What is missing before this message.
        public internal(set) var gap: Gap?
        /// The event as it came.
        public let event: WireEvent

        /// The number of the message in the topic's stream; `nil`: a topic without history.
        public var offset: UInt64? { self.event.offset }

        /// Reads ``data`` as a value of this type.
        /// - Throws: ``HoldfastError`` with code `undecodable`, which says where and why.
        public func decode<Payload: Decodable>(
            _ type: Payload.Type = Payload.self, using decoder: JSONDecoder = JSONDecoder()
        ) throws -> Payload {
            try HoldfastClient.decode(type, from: self.data, of: self.subscription, using: decoder)
        }
    }

    /// A message whose data has been decoded.
    public struct TypedMessage<Payload: Sendable>: Sendable {
        public let payload: Payload
        public let message: Message

        /// What is missing before this message.
        public var gap: Gap? { self.message.gap }
        public var position: Position? { self.message.position }
    }

    /// The gateway's word that a subscription stands.
    public struct Confirmation: Sendable, Equatable {
        /// Where the topic's stream stands; `nil`: a topic without history.
        public let position: Position?
        /// Whether all messages since the wanted position are still there; `nil` where none was wanted.
        public let isRecovered: Bool?
        /// What the service has said, as JSON.
        public let data: ByteBuffer?
    }

    /// Nothing was lost.
    public struct Recovery: Sendable, Equatable {
        /// How it was done.
        public enum Means: Sendable, Equatable {
            /// The session was resumed on another line.
            case session
            /// The session was gone, and the topic's history had what came meanwhile.
            case position
        }

        public let means: Means
        /// How many were missed and follow now, where that is known.
        public let messages: UInt64?

        public init(means: Means, messages: UInt64?) {
            self.means = means
            self.messages = messages
        }
    }

    /// What happens to a subscription.
    public enum SubscriptionEvent: Sendable, Equatable {
        case subscribed(Confirmation)
        case recovered(Recovery)
        /// Also told with the next message, as ``Message/gap``.
        case gap(Gap)
        case message(Message)
    }

    /// What a service answered to a message.
    public struct Reply: Sendable, Equatable {
        /// One JSON value; `nil` if the service said no more than that all is well.
        public let data: ByteBuffer?
        let subscription: String

        /// Reads ``data``, or `null` if there is none, as a value of this type.
        /// - Throws: ``HoldfastError`` with code `undecodable`.
        public func decode<Payload: Decodable>(
            _ type: Payload.Type = Payload.self, using decoder: JSONDecoder = JSONDecoder()
        ) throws -> Payload {
            try HoldfastClient.decode(
                type, from: self.data ?? ByteBuffer(string: "null"), of: self.subscription, using: decoder)
        }
    }
}

extension HoldfastClient {
    /// A place in a topic's stream: the stream's life (epoch), and the number of a message in it.
    public typealias Position = HoldfastProtocol.Position

    static func decode<Payload: Decodable>(
        _ type: Payload.Type,
        from data: ByteBuffer,
        of subscription: String,
        using decoder: JSONDecoder
    ) throws -> Payload {
        do {
            return try decoder.decode(type, from: data)
        } catch {
            throw HoldfastError(
                code: "undecodable",
                text: "The data of \(subscription) is no \(type): \(Self.words(for: error))",
                data: data
            )
        }
    }

    private static func words(for error: any Error) -> String {
        func place(_ context: DecodingError.Context) -> String {
            let path = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".")
            return path.isEmpty ? "" : "\(path): "
        }
        return switch error as? DecodingError {
        case .keyNotFound(let key, let context)?: "\(place(context))\(key.stringValue) is missing."
        case .typeMismatch(_, let context)?, .valueNotFound(_, let context)?, .dataCorrupted(let context)?:
            "\(place(context))\(context.debugDescription)"
        default: "\(error)"
        }
    }

    static func encode(_ payload: some Encodable, of subscription: String, using encoder: JSONEncoder) throws
        -> ByteBuffer
    {
        do {
            return ByteBuffer(bytes: try encoder.encode(payload))
        } catch {
            throw HoldfastError(
                code: "unencodable", text: "The data for \(subscription) is nothing that JSON can say: \(error)")
        }
    }
}
