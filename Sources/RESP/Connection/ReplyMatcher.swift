import DequeModule
import NIOCore

/// Tells which command an incoming value answers, sans-IO. Answers come in the order of the commands; what comes on a
/// channel comes in between.
///
/// In RESP3 that is a push. In RESP2 it is an array, which only the state of the connection distinguishes from an answer:
/// a connection that has subscriptions can send nothing but (un)subscribe, PING and QUIT, so every array is one
/// (redis.io/docs/latest/develop/pubsub, "Format of pushed messages"; RESP3 specification, "Push type").
struct ReplyMatcher<Token> {
    enum Verb: Equatable {
        case subscribe
        case unsubscribe
    }

    enum Kind: Equatable {
        case reply
        /// One acknowledgement for each channel, or one error for all.
        case acknowledgements(Verb, missing: Int)
    }

    struct Entry {
        var kind: Kind
        let token: Token
        let since: NIODeadline
    }

    enum Action {
        /// The command has its answer.
        case reply(Token, RESPValue)
        /// One channel of the first waiting command.
        /// - completes: the command, if it was the last channel.
        case acknowledged(Verb, channel: ByteBuffer, completes: Token?)
        case message(channel: ByteBuffer, payload: ByteBuffer)
        /// A push that we have not asked for and have no use for.
        case nothing
    }

    var isRESP3 = false
    private var waiting = Deque<Entry>()
    /// What the server counted at the last acknowledgement.
    private var subscriptions: Int64 = 0

    var count: Int { self.waiting.count }

    /// When the command was sent that waits longest.
    var oldest: NIODeadline? { self.waiting.first?.since }

    mutating func sent(_ token: Token, _ kind: Kind, at now: NIODeadline) {
        self.waiting.append(Entry(kind: kind, token: token, since: now))
    }

    /// The connection is over: all that wait, in order.
    mutating func removeAll() -> [Token] {
        defer { self.waiting = [] }
        return self.waiting.map(\.token)
    }

    /// - Throws: `.protocolError` for what answers nothing.
    mutating func received(_ value: RESPValue) throws(RESPError) -> Action {
        switch value {
        case .push(let elements): return try self.pushed(elements, or: nil)
        case .array(let elements) where !self.isRESP3 && self.isOnChannels: return try self.pushed(elements, or: value)
        case .simpleString, .simpleError, .bulkString, .bulkError, .verbatimString, .number, .double, .boolean,
            .bigNumber, .null, .array, .map, .set:
            return try self.answered(value)
        }
    }

    /// Whether an array of RESP2 can be something else than an answer.
    private var isOnChannels: Bool {
        if self.subscriptions > 0 { return true }
        if case .acknowledgements = self.waiting.first?.kind { return true }
        return false
    }

    private mutating func answered(_ value: RESPValue) throws(RESPError) -> Action {
        guard let entry = self.waiting.first else { throw .protocolError("an answer to no command") }
        if case .acknowledgements = entry.kind, value.errorMessage == nil {
            throw .protocolError("an answer to a subscription that is not an acknowledgement")
        }
        self.waiting.removeFirst()
        return .reply(entry.token, value)
    }

    /// - Parameter value: an array of RESP2, which can be the answer to a PING.
    private mutating func pushed(_ elements: [RESPValue], or value: RESPValue?) throws(RESPError) -> Action {
        guard let kind = elements.first?.bytes else { throw .protocolError("a push without a kind") }
        switch kind {
        case PushKind.message:
            guard elements.count == 3, let channel = elements[1].bytes, let payload = elements[2].bytes else {
                throw .protocolError("a message that is not a channel and a payload")
            }
            return .message(channel: channel, payload: payload)
        case PushKind.subscribe: return try self.acknowledged(.subscribe, elements)
        case PushKind.unsubscribe: return try self.acknowledged(.unsubscribe, elements)
        default:
            guard let value else { return .nothing }
            guard kind == PushKind.pong else {
                throw .protocolError("an array of an unknown kind on a subscribed connection")
            }
            return try self.answered(value)
        }
    }

    private mutating func acknowledged(_ verb: Verb, _ elements: [RESPValue]) throws(RESPError) -> Action {
        guard elements.count == 3, let channel = elements[1].bytes, let count = elements[2].integer else {
            throw .protocolError("an acknowledgement that is not a channel and a count")
        }
        guard let first = self.waiting.first, case .acknowledgements(verb, let missing) = first.kind else {
            throw .protocolError("an acknowledgement of a \(verb) that was not sent")
        }
        self.subscriptions = count
        guard missing == 1 else {
            self.waiting[self.waiting.startIndex].kind = .acknowledgements(verb, missing: missing - 1)
            return .acknowledged(verb, channel: channel, completes: nil)
        }
        self.waiting.removeFirst()
        return .acknowledged(verb, channel: channel, completes: first.token)
    }
}

private enum PushKind {
    static let message = ByteBuffer(string: "message")
    static let subscribe = ByteBuffer(string: "subscribe")
    static let unsubscribe = ByteBuffer(string: "unsubscribe")
    static let pong = ByteBuffer(string: "pong")
}
