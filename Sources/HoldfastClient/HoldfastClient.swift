import AsyncHTTPClient
import Foundation
import HoldfastCore
import HoldfastProtocol
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// A connection to a Holdfast gateway that holds: a dead line is noticed and replaced, and what was missed meanwhile comes once
/// and in order, or its absence is told.
///
/// ```swift
/// let client = try HoldfastClient(url: "https://events.example.com")
/// for try await message in client.subscribe("calls.call_1") {
///     print(String(buffer: message.data))
/// }
/// ```
///
/// It connects when it is first used, and stays connected until ``close()``, or until nobody holds it. All functions may be
/// called from anywhere. A client that is closed stays closed.
public final class HoldfastClient: Sendable {
    /// Why and how the client came to be as it is.
    public struct StateChange: Sendable, Equatable {
        /// `idle`: nobody has used it yet. `connecting`, `connected`. `reconnecting`: the line was lost, and another one is sought.
        /// `suspended`: there is no network, as a ``Hint`` said. `closed`: for good.
        public typealias State = ConnectionState
        /// `connect`, `newSession`, `resumed`, `lineClosed`, `dead` (no answer in time), `connectTimeout`, `helloRefused`, `badCount`,
        /// `lateTimer` (the computer was asleep), and of hints: `offline`, `online`, `shown`, `doubt`. Of `closed`: `closedByApp`,
        /// `replaced`, `forbidden`, `authenticationExpired`, `maxAttempts`.
        public typealias Reason = ConnectionReason

        public let state: State
        public let previous: State
        /// `nil`: nothing has happened yet.
        public let reason: Reason?
        /// When reconnecting: how long until the next attempt, when this was told; `nil` while one is under way.
        public let nextAttemptIn: Duration?
        /// What the network or the gateway said, in words, where somebody has ended the line.
        public let detail: String?
    }

    /// A line carries the session.
    public struct Connected: Sendable, Equatable {
        /// Nothing can be missing, since the session is the one from before.
        public let isResumed: Bool
        /// The session's public part, as it stands in the gateway's log and API.
        public let session: String
        /// The gateway that answered.
        public let node: String?
        /// `websocket`, `stream` or `poll`.
        public let transport: ClientTransport
    }

    /// What happens to the client as a whole.
    public enum Event: Sendable, Equatable {
        case state(StateChange)
        case connected(Connected)
        /// - Parameter subscription: `nil`: all of the session.
        case recovered(Recovery, subscription: String?)
        case gap(Gap)
        /// A ping was answered.
        case roundTrip(Duration, estimate: Duration)
        /// The gateway wants us elsewhere, and we go after that time.
        case goaway(reason: String?, in: Duration)
        /// Something that the app should know; nothing has to be done. Codes: `unreadable`, `bad_count`, `hello_refused`,
        /// `credentials_failed`, `server_error`, `protocol_error`, `replaced`, `forbidden`, `authentication_expired`, `max_attempts`.
        case problem(HoldfastError)
    }

    /// What the platform knows and a program on it can tell.
    public enum Hint: Sendable {
        /// Nobody looks, such as an app in the background: pings become rare, and attempts too.
        case hidden
        case shown
        case offline
        case online
        /// Something happened that often kills lines: ask at once whether it lives.
        case doubt
        /// This is another network: asks whether the line lives, and tries a WebSocket again where none got through before.
        case networkChanged
        /// Try a WebSocket now, where the session is carried over HTTP. What carries it is not disturbed.
        case probe
    }

    let desk: Desk
    let configuration: ClientConfiguration
    private let publisher: EventPublisher
    private let hasConnected = Atomic(false)

    /// A client of this gateway. It connects when it is first used.
    /// - Parameters:
    ///   - url: `http`, `https`, `ws` or `wss`, host and port; without a path, that of a gateway.
    ///   - configure: changes what has defaults.
    /// - Throws: ``GatewayURL/Invalid``, and `NIOSSLError` if certificates cannot be used.
    public convenience init(url: String, configure: (inout ClientConfiguration) -> Void = { _ in }) throws {
        var configuration = try ClientConfiguration(url: url)
        configure(&configuration)
        try self.init(configuration)
    }

    /// A client with this configuration. It connects when it is first used.
    /// - Parameters:
    ///   - configuration: all that there is to set.
    ///   - loop: on which the client does its work.
    /// - Throws: `NIOSSLError` if certificates cannot be used.
    public init(
        _ configuration: ClientConfiguration,
        on loop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) throws {
        let desk = Desk(try ClientConnection(configuration, on: loop))
        let watch = ClientWatch(configuration)
        self.configuration = configuration
        self.desk = desk
        self.publisher = EventPublisher(configuration)
        // It ends with the connection, which ends with the client at the latest.
        Task { await desk.run { watch.saw($0) } }
    }

    deinit {
        self.desk.close()
    }

    // MARK: Connection

    /// Connects, and stays connected. While connected: asks whether the line lives. While waiting: tries at once.
    public func connect() {
        self.hasConnected.store(true, ordering: .relaxed)
        self.desk.connection.connect()
    }

    func connectIfNeeded() {
        if !self.hasConnected.exchange(true, ordering: .relaxed) { self.desk.connection.connect() }
    }

    /// Says goodbye, without waiting for anything. Loops end well, and who awaits a reply gets an error.
    public func close() {
        self.desk.close()
    }

    /// Waits for the replies that are awaited, but no longer than that, and then closes.
    public func close(waiting limit: Duration) async {
        let deadline = ContinuousClock.now + limit
        while self.desk.awaitedReplies > 0, ContinuousClock.now < deadline, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(20))
        }
        self.close()
        _ = await self.desk.untilClosed()
    }

    /// What the program knows of its surroundings.
    public func hint(_ hint: Hint) {
        let connection = self.desk.connection
        switch hint {
        case .hidden: connection.input(.hidden)
        case .shown: connection.input(.shown)
        case .offline: connection.input(.offline)
        case .online: connection.input(.online)
        case .doubt: connection.input(.doubt)
        case .networkChanged: connection.input(.changed)
        case .probe: connection.input(.probe)
        }
    }

    /// The state of this moment.
    public var state: StateChange { self.desk.current }

    /// The state of this moment, then all changes. The oldest of 64 are dropped where nobody reads.
    public var states: States { States(desk: self.desk) }

    /// What happens from now on. The oldest of 256 are dropped where nobody reads.
    public var events: Events { Events(desk: self.desk) }

    /// Figures of this moment; `nil` once the client is closed. Among them `transport`, `webSocket` (what is known of WebSockets on
    /// the way), `roundTrip`, `queuedBytes`, and `counts` of attempts, sessions and gaps.
    public var statistics: ConnectionMachine.Statistics? {
        get async { await self.desk.connection.statistics }
    }

    // MARK: Subscriptions

    /// Messages of a topic, from now on, or from a position on. Subscriptions of the same name share one on the gateway, which ends
    /// when nobody holds or reads any of them.
    /// - Parameters:
    ///   - name: `service.topic`.
    ///   - since: the position after which messages are wanted; `nil`: from now on.
    ///   - fields: members added to the event, for services that know them.
    ///   - buffer: what happens when messages come faster than they are read; `nil`: as configured.
    public func subscribe(
        _ name: String,
        since: Position? = nil,
        fields: [String: JSONValue] = [:],
        buffer: BufferPolicy? = nil
    ) -> Subscription {
        defer { self.connectIfNeeded() }
        return Subscription(
            client: self, name: name, since: since, fields: fields.members, buffer: buffer ?? self.configuration.buffer)
    }

    /// The same with data that is decoded. The loop ends with the error `undecodable` at the first message that is none: where
    /// this must not be, subscribe without a type and use ``Message/decode(_:using:)``.
    public func subscribe<Payload: Decodable & Sendable>(
        _ name: String,
        as type: Payload.Type,
        since: Position? = nil,
        fields: [String: JSONValue] = [:],
        buffer: BufferPolicy? = nil,
        decoder: JSONDecoder = JSONDecoder()
    ) -> TypedSubscription<Payload> {
        TypedSubscription(
            subscription: self.subscribe(name, since: since, fields: fields, buffer: buffer), decoder: decoder)
    }

    // MARK: Sending

    /// Sends a message to a subscription's service, and waits for its reply. It is repeated until the gateway has it, once.
    ///
    /// A task that is cancelled stops waiting; the message may arrive all the same.
    /// - Parameters:
    ///   - data: one JSON value, which goes out as it is.
    ///   - subscription: `service.topic`, which must be subscribed.
    ///   - fields: members added to the event, for services that know them.
    /// - Throws: ``HoldfastError``: what the service or the gateway answered, or `closed`, `queue_full`, `too_big`.
    @discardableResult
    public func message(
        _ data: ByteBuffer,
        to subscription: String,
        fields: [String: JSONValue] = [:]
    ) async throws -> Reply {
        try data.checkJSON(for: subscription)
        self.connectIfNeeded()
        let event = try await self.desk.reply(to: data, for: subscription, fields: fields.members)
        guard event.status == "ok" else { throw HoldfastError(event) }
        return Reply(data: event.data, subscription: subscription)
    }

    /// Sends a value as JSON, and waits for the reply. See ``message(_:to:fields:)``.
    @discardableResult
    public func message(
        _ payload: some Encodable & Sendable,
        to subscription: String,
        fields: [String: JSONValue] = [:],
        encoder: JSONEncoder = JSONEncoder()
    ) async throws -> Reply {
        try await self.message(
            try Self.encode(payload, of: subscription, using: encoder), to: subscription, fields: fields)
    }

    /// Publishes to all subscribers, through the gateway's API, which asks for ``ClientConfiguration/apiKey``. For backends.
    /// - Parameters:
    ///   - data: one JSON value, which goes out as it is.
    ///   - subscription: `service.topic`; this client need not be subscribed.
    ///   - idempotencyKey: a publication with the same key is accepted once, so it can be repeated. `nil`: none, and one try.
    /// - Throws: ``HoldfastError``: what the gateway answered, or `unreachable`.
    @discardableResult
    public func publish(
        _ data: ByteBuffer,
        to subscription: String,
        idempotencyKey: String? = UUID().uuidString
    ) async throws -> Published {
        try await self.publisher.publish(data, to: subscription, idempotencyKey: idempotencyKey)
    }

    /// Publishes a value as JSON. See ``publish(_:to:idempotencyKey:)``.
    @discardableResult
    public func publish(
        _ payload: some Encodable & Sendable,
        to subscription: String,
        idempotencyKey: String? = UUID().uuidString,
        encoder: JSONEncoder = JSONEncoder()
    ) async throws -> Published {
        try await self.publish(
            try Self.encode(payload, of: subscription, using: encoder), to: subscription, idempotencyKey: idempotencyKey
        )
    }
}

extension ByteBuffer {
    /// - Throws: ``HoldfastError`` with code `unencodable` unless this is one JSON value.
    func checkJSON(for subscription: String) throws(HoldfastError) {
        do throws(JSONError) {
            _ = try JSONValue(parsing: self, limits: WireEvent.limits)
        } catch {
            throw HoldfastError(code: "unencodable", text: "The data for \(subscription) is not JSON: \(error)")
        }
    }
}

extension [String: JSONValue] {
    var members: [JSONObject.Member] {
        self.sorted { $0.key < $1.key }.map { JSONObject.Member(name: $0.key, value: $0.value) }
    }
}

extension HoldfastClient {
    /// The states of a client: first the present one.
    public struct States: AsyncSequence, Sendable {
        let desk: Desk

        public struct AsyncIterator: AsyncIteratorProtocol {
            let reader: InboxReader<HoldfastClient.Event>

            public mutating func next() async -> HoldfastClient.StateChange? {
                while let event = try? await self.reader.inbox.next() {
                    if case .state(let change) = event { return change }
                }
                return nil
            }
        }

        public func makeAsyncIterator() -> AsyncIterator {
            AsyncIterator(reader: self.desk.listener(keeping: 64, beginningWithCurrent: true))
        }
    }

    /// What happens to a client, from the moment that it is asked for.
    public struct Events: AsyncSequence, Sendable {
        let desk: Desk

        public struct AsyncIterator: AsyncIteratorProtocol {
            let reader: InboxReader<HoldfastClient.Event>

            public mutating func next() async -> HoldfastClient.Event? { (try? await self.reader.inbox.next()) ?? nil }
        }

        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(reader: self.desk.listener(keeping: 256)) }
    }
}
