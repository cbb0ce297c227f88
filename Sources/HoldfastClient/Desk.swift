import HoldfastCore
import HoldfastProtocol
import NIOCore
import Synchronization

/// Who in the app waits for what: readers of subscriptions and of the client's own events, and those who await replies.
///
/// Calls to the connection are made with the lock held, so that the gateway hears of subscriptions in the order in which they
/// were entered here; they do no more than put a task on the connection's event loop.
final class Desk: Sendable {
    typealias Message = HoldfastClient.Message
    typealias Gap = HoldfastClient.Gap
    typealias Confirmation = HoldfastClient.Confirmation
    typealias Recovery = HoldfastClient.Recovery
    typealias SubscriptionEvent = HoldfastClient.SubscriptionEvent

    private struct Topic {
        /// Tells it from a later one of the same name.
        let token: UInt64
        /// Of the command. What comes before the machine has it is about an earlier one of the same name.
        let id: String
        var hasBegun = false
        let fields: [JSONObject.Member]
        var holders = Set<UInt64>()
        var readers: [UInt64: Reader] = [:]
        var confirmation: Confirmation?
        var waiting: [UInt64: CheckedContinuation<Confirmation, any Error>] = [:]
        /// Of the last message that went to the readers.
        var position: Position?
    }

    private struct Reader {
        let holder: UInt64
        let inbox: Inbox<SubscriptionEvent>
        /// Not yet told with a message.
        var gap: Gap?
    }

    private struct State {
        var topics = NameTable<Topic>()
        var replies: [String: CheckedContinuation<WireEvent, any Error>] = [:]
        var listeners: [UInt64: Inbox<HoldfastClient.Event>] = [:]
        var closing: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var lastNumber: UInt64 = 0
        var current = HoldfastClient.StateChange(
            state: .idle, previous: .idle, reason: nil, nextAttemptIn: nil, detail: nil)
        /// Why the last line has ended.
        var lastEnd: String?
        var transport: ClientTransport?
        /// The app wants to close: nobody may hold up what leads to it.
        var isClosing = false
        /// The client is closed: by the app, or for good by the gateway.
        var end: Result<Void, HoldfastError>?

        mutating func number() -> UInt64 {
            self.lastNumber += 1
            return self.lastNumber
        }
    }

    /// What the app holds as long as it holds a subscription.
    struct Hold: Sendable {
        let name: String
        fileprivate let token: UInt64
        fileprivate let holder: UInt64
    }

    /// One event for one reader.
    private enum Delivery {
        case subscription(Inbox<SubscriptionEvent>, SubscriptionEvent)
        case client(Inbox<HoldfastClient.Event>, HoldfastClient.Event)
        case confirmed(CheckedContinuation<Confirmation, any Error>, Result<Confirmation, HoldfastError>)
        case replied(CheckedContinuation<WireEvent, any Error>, WireEvent)
        case ended(Inbox<SubscriptionEvent>, Result<Void, HoldfastError>)
    }

    let connection: ClientConnection
    private let state = Mutex(State())
    /// Rings when a full reader may have room again, or must not be waited for.
    private let bell: AsyncStream<Void>
    private let ring: @Sendable () -> Void

    init(_ connection: ClientConnection) {
        self.connection = connection
        let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        self.bell = stream
        self.ring = { continuation.yield() }
    }

    // MARK: What the app asks

    var current: HoldfastClient.StateChange { self.state.withLock { $0.current } }

    /// - Returns: the reader that gets all from now on, and what to ask by; or a reader that has ended with an error.
    func subscribe(
        _ name: String,
        since: Position?,
        fields: [JSONObject.Member],
        buffer: BufferPolicy
    ) -> (reader: InboxReader<SubscriptionEvent>, hold: Hold) {
        return self.state.withLock { state in
            let nothing = Hold(name: name, token: 0, holder: 0)
            if let end = state.end { return (self.ended(name, end.flatMap { .failure(Self.closedByApp) }), nothing) }
            if let topic = state.topics[name] {
                guard since == nil, fields.isEmpty || fields == topic.fields else {
                    let text = "\(name) is subscribed already: end that subscription before you give other options."
                    return (self.ended(name, .failure(HoldfastError(code: "subscribed_already", text: text))), nothing)
                }
            } else {
                let id = self.connection.subscribe(name, since: since, fields: fields)
                state.topics[name] = Topic(token: state.number(), id: id, fields: fields)
            }
            let hold = Hold(name: name, token: state.topics[name]?.token ?? 0, holder: state.number())
            state.topics[name]?.holders.insert(hold.holder)
            return (self.reader(hold, buffer, &state), hold)
        }
    }

    /// Another reader of the same topic.
    func reader(_ hold: Hold, buffer: BufferPolicy) -> InboxReader<SubscriptionEvent> {
        self.state.withLock { state in
            guard let topic = state.topics[hold.name], topic.token == hold.token, topic.holders.contains(hold.holder)
            else { return self.ended(hold.name, state.end ?? .failure(Self.notSubscribed(hold.name))) }
            return self.reader(hold, buffer, &state)
        }
    }

    private func reader(_ hold: Hold, _ buffer: BufferPolicy, _ state: inout State) -> InboxReader<SubscriptionEvent> {
        let number = state.number()
        let inbox = Inbox<SubscriptionEvent>(hold.name, buffer, dropping: Self.dropping, onRoom: self.ring)
        state.topics[hold.name]?.readers[number] = Reader(holder: hold.holder, inbox: inbox)
        return InboxReader(inbox) { [weak self] in
            self?.state.withLock { state in
                guard state.topics[hold.name]?.token == hold.token else { return }
                state.topics[hold.name]?.readers[number] = nil
            }
        }
    }

    private func ended(_ name: String, _ end: Result<Void, HoldfastError>) -> InboxReader<SubscriptionEvent> {
        let inbox = Inbox<SubscriptionEvent>(name, .fail())
        inbox.finish(end)
        return InboxReader(inbox) {}
    }

    /// A holder lets go: its readers end. The last one ends the subscription.
    func release(_ hold: Hold) {
        let name = hold.name
        let (readers, waiting) = self.state.withLock {
            state -> ([Reader], [CheckedContinuation<Confirmation, any Error>]) in
            guard var topic = state.topics[name], topic.token == hold.token,
                topic.holders.remove(hold.holder) != nil
            else { return ([], []) }
            guard topic.holders.isEmpty else {
                let readers = topic.readers.filter { $0.value.holder == hold.holder }
                for number in readers.keys { topic.readers[number] = nil }
                state.topics[name] = topic
                return (Array(readers.values), [])
            }
            state.topics[name] = nil
            self.connection.unsubscribe(name)
            return (Array(topic.readers.values), Array(topic.waiting.values))
        }
        for reader in readers { reader.inbox.finish(.success(())) }
        for waiting in waiting { waiting.resume(throwing: Self.notSubscribed(name)) }
    }

    func position(_ hold: Hold) -> Position? {
        self.state.withLock { state in
            guard let topic = state.topics[hold.name], topic.token == hold.token else { return nil }
            return topic.position
        }
    }

    /// Waits until the gateway has confirmed a subscription.
    func confirmation(_ hold: Hold) async throws -> Confirmation {
        let (name, token) = (hold.name, hold.token)
        let number = self.state.withLock { $0.number() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let ready: Result<Confirmation, any Error>? = self.state.withLock { state in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    guard let topic = state.topics[name], topic.token == token else {
                        if case .failure(let error) = state.end { return .failure(error) }
                        return .failure(Self.notSubscribed(name))
                    }
                    if let confirmation = topic.confirmation { return .success(confirmation) }
                    state.topics[name]?.waiting[number] = continuation
                    return nil
                }
                if let ready { continuation.resume(with: ready) }
                self.ring()
            }
        } onCancel: {
            let waiting = self.state.withLock { state in
                state.topics[name]?.token == token ? state.topics[name]?.waiting.removeValue(forKey: number) : nil
            }
            waiting?.resume(throwing: CancellationError())
        }
    }

    /// Sends a message and waits for its reply.
    func reply(to data: ByteBuffer, for subscription: String, fields: [JSONObject.Member]) async throws -> WireEvent {
        let id = self.connection.nextID()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let failure: (any Error)? = self.state.withLock { state in
                    if Task.isCancelled { return CancellationError() }
                    switch state.end {
                    case .success: return Self.closedByApp
                    case .failure(let error): return error
                    case nil: break
                    }
                    state.replies[id] = continuation
                    self.connection.send(id: id, data, to: subscription, fields: fields)
                    return nil
                }
                if let failure { continuation.resume(throwing: failure) }
                self.ring()
            }
        } onCancel: {
            self.state.withLock { $0.replies.removeValue(forKey: id) }?.resume(throwing: CancellationError())
        }
    }

    /// The client's own events. The oldest are dropped where nobody reads: they are about now.
    func listener(keeping limit: Int, beginningWithCurrent: Bool = false) -> InboxReader<HoldfastClient.Event> {
        self.state.withLock { state in
            let number = state.number()
            let inbox = Inbox<HoldfastClient.Event>("the client's events", .dropOldest(keeping: limit))
            if beginningWithCurrent { _ = inbox.offer(.state(state.current), mustTake: true) }
            if let end = state.end {
                inbox.finish(end.flatMapError { _ in .success(()) })
            } else {
                state.listeners[number] = inbox
            }
            return InboxReader(inbox) { [weak self] in
                self?.state.withLock { _ = $0.listeners.removeValue(forKey: number) }
            }
        }
    }

    var awaitedReplies: Int { self.state.withLock { $0.replies.count } }

    /// What an app that does not read would hold up, were it waited for.
    private var mustTake: Bool {
        self.state.withLock { state in
            state.isClosing || !state.replies.isEmpty || state.topics.values.contains { !$0.waiting.isEmpty }
        }
    }

    func close() {
        self.state.withLock { $0.isClosing = true }
        self.connection.close()
        self.ring()
    }

    /// - Returns: when the client is closed; at once if the task is cancelled.
    func untilClosed() async -> Result<Void, HoldfastError>? {
        let number = self.state.withLock { $0.number() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = self.state.withLock { state in
                    if state.end != nil || Task.isCancelled { return true }
                    state.closing[number] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            self.state.withLock { $0.closing.removeValue(forKey: number) }?.resume()
        }
        return self.state.withLock { $0.end }
    }

    // MARK: What the connection tells

    /// Reads the connection's events to their end. Waits for readers that want to be waited for, and so the connection does.
    func run(_ watch: @Sendable (ConnectionEvent) -> Void) async {
        var bell = self.bell.makeAsyncIterator()
        for await event in self.connection.events {
            watch(event)
            for delivery in self.state.withLock({ self.deliveries(event, &$0) }) {
                switch delivery {
                case .subscription(let inbox, let event):
                    // Who is held up is only asked where there is no room.
                    while inbox.offer(event, mustTake: false) == .full,
                        inbox.offer(event, mustTake: self.mustTake) == .full
                    { await bell.next() }
                case .client(let inbox, let event): _ = inbox.offer(event, mustTake: true)
                case .confirmed(let waiting, let result): waiting.resume(with: result.mapError { $0 as any Error })
                case .replied(let waiting, let event): waiting.resume(returning: event)
                case .ended(let inbox, let end): inbox.finish(end)
                }
            }
        }
        self.end()
    }

    private func deliveries(_ event: ConnectionEvent, _ state: inout State) -> [Delivery] {
        switch event {
        case .line(.ended(_, _, let reason)):
            state.lastEnd = reason
            return []
        case .line(.carried(let transport)):
            state.transport = transport
            return []
        case .line: return []
        case .began(let name, let id):
            if state.topics[name]?.id == id { state.topics[name]?.hasBegun = true }
            return []
        case .news(let news): return self.deliveries(news, &state)
        }
    }

    private func deliveries(_ news: ConnectionNews, _ state: inout State) -> [Delivery] {
        switch news {
        case .state(let change):
            let isAboutLine = [.lineClosed, .helloRefused].contains(change.reason)
            state.current = HoldfastClient.StateChange(
                state: change.state,
                previous: change.previous,
                reason: change.reason,
                nextAttemptIn: change.nextAttemptAt.map { self.duration(until: $0) },
                detail: isAboutLine ? state.lastEnd : nil
            )
            if change.state == .closed {
                state.end =
                    change.reason == .closedByApp ? .success(()) : .failure(HoldfastError(closed: change.reason))
            }
            return self.toAll(.state(state.current), state)
        case .connected(let isResumed, let event):
            let connected = HoldfastClient.Connected(
                isResumed: isResumed,
                session: event.sessionHandle ?? "",
                node: event["node"]?.string,
                transport: state.transport ?? .websocket
            )
            guard isResumed else { return self.toAll(.connected(connected), state) }
            let recovery = Recovery(means: .session, messages: nil)
            return self.toAll(.connected(connected), state) + self.toAll(.recovered(recovery, subscription: nil), state)
                + state.topics.values.filter { $0.confirmation != nil }.flatMap {
                    Self.toReaders(.recovered(recovery), $0)
                }
        case .subscribed(let name, let since, let event): return self.subscribed(name, since, event, &state)
        case .unsubscribed(let name, let event):
            guard let topic = Self.begun(name, state) else { return [] }
            state.topics[name] = nil
            let error = event.error.map { _ in HoldfastError(event) }
            let end: Result<Void, HoldfastError> = error.map { .failure($0) } ?? .success(())
            return topic.readers.values.map { .ended($0.inbox, end) }
                + topic.waiting.values.map { .confirmed($0, .failure(error ?? Self.notSubscribed(name))) }
        case .message(let event): return Self.message(event, &state)
        case .gap(let name, let after, let next):
            let gap = Gap(subscription: name, after: after, next: next)
            guard var topic = Self.begun(name, state) else { return self.toAll(.gap(gap), state) }
            if let next { topic.position?.offset = next - 1 }
            for (number, reader) in topic.readers {
                topic.readers[number]?.gap = reader.gap?.followed(by: gap) ?? gap
            }
            state.topics[name] = topic
            return Self.toReaders(.gap(gap), topic) + self.toAll(.gap(gap), state)
        case .reply(let id, let event):
            if let reply = state.replies.removeValue(forKey: id) { return [.replied(reply, event)] }
            // Nobody waits for the end of a subscription, but that it was refused should be known.
            guard event.error != nil, event.name == "unsubscribe" else { return [] }
            return self.toAll(.problem(HoldfastError(event)), state)
        case .roundTrip(let last, let estimate):
            return self.toAll(.roundTrip(last.duration, estimate: estimate.duration), state)
        case .goaway(let at, let event):
            return self.toAll(.goaway(reason: event["reason"]?.string, in: self.duration(until: at)), state)
        case .problem(let problem): return self.toAll(.problem(HoldfastError(problem)), state)
        }
    }

    private func subscribed(_ name: String, _ since: Position?, _ event: WireEvent, _ state: inout State) -> [Delivery]
    {
        guard var topic = Self.begun(name, state) else { return [] }
        let position = event.position
        // In the same epoch the messages go on from where we were; a gap says from where else.
        if since == nil || position == nil {
            topic.position = position
        } else if let since, let position {
            topic.position = since.epoch == position.epoch ? since : Position(epoch: position.epoch, offset: 0)
        }
        let confirmation = Confirmation(
            position: position, isRecovered: since.map { _ in event.isRecovered }, data: event.data)
        topic.confirmation = confirmation
        let waiting = topic.waiting.values
        topic.waiting = [:]
        state.topics[name] = topic
        var deliveries = Self.toReaders(.subscribed(confirmation), topic)
        if let since, let position, event.isRecovered {
            let missed = position.offset >= since.offset ? position.offset - since.offset : 0
            let recovery = Recovery(means: .position, messages: missed)
            deliveries += Self.toReaders(.recovered(recovery), topic)
            deliveries += self.toAll(.recovered(recovery, subscription: name), state)
        }
        return deliveries + waiting.map { .confirmed($0, .success(confirmation)) }
    }

    private static func message(_ event: WireEvent, _ state: inout State) -> [Delivery] {
        guard let name = event.subscription, var topic = Self.begun(name, state) else { return [] }
        if let offset = event.offset { topic.position?.offset = offset }
        var message = Message(
            subscription: name, data: event.data ?? ByteBuffer(string: "null"),
            position: event.offset == nil ? nil : topic.position, gap: nil, event: event)
        var deliveries: [Delivery] = []
        for (number, reader) in topic.readers {
            message.gap = reader.gap
            topic.readers[number]?.gap = nil
            deliveries.append(.subscription(reader.inbox, .message(message)))
        }
        state.topics[name] = topic
        return deliveries
    }

    /// Nothing more will come, for anybody.
    private func end() {
        let state = self.state.withLock { state in
            // Where the last reader of the connection has gone without a word of the machine.
            if state.end == nil { state.end = .success(()) }
            defer {
                state.topics = NameTable()
                state.replies = [:]
                state.listeners = [:]
                state.closing = [:]
            }
            return state
        }
        let end = state.end ?? .success(())
        let error: HoldfastError = if case .failure(let error) = end { error } else { Self.closedByApp }
        for topic in state.topics.values {
            for reader in topic.readers.values { reader.inbox.finish(end) }
            for waiting in topic.waiting.values { waiting.resume(throwing: error) }
        }
        for reply in state.replies.values { reply.resume(throwing: error) }
        for listener in state.listeners.values { listener.finish(.success(())) }
        for closing in state.closing.values { closing.resume() }
    }

    // MARK: Within

    /// The topic that an event of this name is about.
    private static func begun(_ name: String, _ state: State) -> Topic? {
        state.topics[name].flatMap { $0.hasBegun ? $0 : nil }
    }

    private func duration(until at: Instant) -> Duration { max(.zero, (at - self.connection.now).duration) }

    private func toAll(_ event: HoldfastClient.Event, _ state: State) -> [Delivery] {
        state.listeners.values.map { .client($0, event) }
    }

    private static func toReaders(_ event: SubscriptionEvent, _ topic: Topic) -> [Delivery] {
        topic.readers.values.map { .subscription($0.inbox, event) }
    }

    /// What is dropped of a reader that wants only the newest: news between the messages first. A message that goes is told by the
    /// next one.
    private static let dropping = Inbox<SubscriptionEvent>.Dropping(
        isMinor: { if case .message = $0 { false } else { true } },
        carryOver: { dropped, next in
            guard case .message(let lost) = dropped, case .message(var message) = next else { return nil }
            let after = lost.gap.map(\.after) ?? lost.offset.map { $0 - 1 }
            message.gap = Gap(subscription: lost.subscription, after: after, next: message.offset)
            return .message(message)
        }
    )

    private static let closedByApp = HoldfastError(closed: .closedByApp)

    private static func notSubscribed(_ name: String) -> HoldfastError {
        HoldfastError(code: "not_subscribed", text: "\(name) was unsubscribed.")
    }
}

extension Span {
    var duration: Duration { .microseconds(self.microseconds) }
}
