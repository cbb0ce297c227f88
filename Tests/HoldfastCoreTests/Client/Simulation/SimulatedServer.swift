import HoldfastCore
import HoldfastProtocol
import NIOCore

/// A server that keeps the protocol, with the gateway's own session machine in it.
final class SimulatedServer {
    struct Settings {
        /// Publications kept per topic.
        let history: Int
        let sessionTTL: Span
        /// Events kept per session.
        let outbox: Int
    }

    /// One connection, as the server sees it.
    final class Transport {
        let up: SimulatedPipe
        let down: SimulatedPipe
        var received: (ByteBuffer) -> Void = { _ in }
        var closed: (CloseCode) -> Void = { _ in }
        fileprivate(set) var session: Session?
        fileprivate var heardAt = 0

        init(up: SimulatedPipe, down: SimulatedPipe) {
            self.up = up
            self.down = down
        }
    }

    final class Session {
        let id: String
        fileprivate var machine = ServerSession(dialect: .native)
        fileprivate var topics = Set<String>()
        fileprivate(set) var transport: Transport?
        fileprivate var generation = 0

        fileprivate init(id: String) {
            self.id = id
        }
    }

    struct Publication {
        let epoch: String
        let offset: UInt64
        /// Place among all publications of the topic, whatever their epoch.
        let index: Int
    }

    final class Topic {
        let name: String
        /// Whether it has history, and hence positions.
        let isStored: Bool
        fileprivate(set) var epoch = "e0"
        fileprivate var epochs = 0
        fileprivate var offset: UInt64 = 0
        fileprivate var history: [Publication] = []
        fileprivate(set) var all: [Publication] = []

        fileprivate init(name: String) {
            self.name = name
            self.isStored = !name.hasPrefix("bare.")
        }
    }

    struct Gap: Hashable {
        let subscription: String
        let after: UInt64?
        let next: UInt64?
    }

    private(set) var sessions: [String: Session] = [:]
    private var topics: [String: Topic] = [:]
    /// Messages of the client, in the order in which they were executed.
    private(set) var executed: [(session: String, id: String)] = []
    /// The gaps that were truly told.
    private(set) var gaps = Set<Gap>()
    private var lastSession = 0
    private let clock: VirtualClock
    private let random: SeededRandom
    private let settings: Settings

    init(clock: VirtualClock, random: SeededRandom, settings: Settings) {
        self.clock = clock
        self.random = random
        self.settings = settings
    }

    func topic(_ name: String) -> Topic {
        if let topic = self.topics[name] { return topic }
        let topic = Topic(name: name)
        self.topics[name] = topic
        return topic
    }

    func publish(_ name: String) {
        let topic = self.topic(name)
        topic.offset += 1
        let publication = Publication(epoch: topic.epoch, offset: topic.offset, index: topic.all.count)
        topic.all.append(publication)
        topic.history.append(publication)
        if topic.history.count > self.settings.history { topic.history.removeFirst() }
        for session in self.inOrder where session.topics.contains(name) {
            self.push(session, self.message(topic, publication))
        }
    }

    private var inOrder: [Session] { self.sessions.values.sorted { $0.id < $1.id } }

    private func message(_ topic: Topic, _ publication: Publication) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", "message")
            json.member("subscription", topic.name)
            if topic.isStored { json.member("offset", publication.offset) }
            json.member("data", publication.index)
        }
    }

    // MARK: Misfortunes

    /// Everything in memory is gone, the offsets begin anew.
    func newEpoch(_ name: String) {
        let topic = self.topic(name)
        topic.epochs += 1
        topic.epoch = "e\(topic.epochs)"
        topic.offset = 0
        topic.history = []
        self.forgetSessions()
    }

    /// All sessions are gone; those with a transport are told.
    func forgetSessions() {
        for session in self.inOrder { self.end(session, .slowConsumer) }
    }

    func goaway(within seconds: Double) {
        for session in self.inOrder {
            guard let transport = session.transport else { continue }
            self.write(transport, ServerEvent.goaway(reason: "drain", retryAfter: 0...seconds))
        }
    }

    private func end(_ session: Session, _ code: CloseCode) {
        self.sessions[session.id] = nil
        session.machine.end()
        if let transport = session.transport { self.close(transport, code) }
    }

    // MARK: Transports

    func close(_ transport: Transport, _ code: CloseCode) {
        self.detach(transport)
        transport.down.send { transport.closed(code) }
    }

    /// The transport's connection has ended.
    func detach(_ transport: Transport) {
        guard let session = transport.session else { return }
        transport.session = nil
        guard session.transport === transport else { return }
        session.transport = nil
        session.generation += 1
        let generation = session.generation
        guard case .wait(let until) = session.machine.detach(now: self.clock.instant, ttl: self.settings.sessionTTL)
        else { return }
        self.clock.at(Int(until.microseconds / 1000)) {
            guard session.generation == generation, self.sessions[session.id] === session else { return }
            self.end(session, .normal)
        }
    }

    /// Nothing was heard for 30 s, not even the answer to a WebSocket Ping.
    private func watch(_ transport: Transport) {
        let heardAt = transport.heardAt
        self.clock.at(heardAt + 30_000) {
            if transport.heardAt != heardAt {
                self.watch(transport)
            } else if transport.session != nil {
                self.close(transport, .heartbeatTimeout)
            }
        }
    }

    private func write(_ transport: Transport, _ text: ByteBuffer) {
        transport.down.send { transport.received(text) }
    }

    private func push(_ session: Session, _ text: ByteBuffer) {
        let limits = Outbox.Limits(events: self.settings.outbox)
        session.machine.outbox.append(EncodedEvent(text, isCounted: true), now: self.clock.instant, limits: limits)
        if let transport = session.transport { self.write(transport, text) }
    }

    // MARK: What the client says

    func receive(_ transport: Transport, _ text: ByteBuffer) {
        transport.heardAt = self.clock.now
        guard let event = try? ClientEvent(parsing: text) else { fatalError("not an event: \(String(buffer: text))") }
        switch event.name {
        case .probe: return self.write(transport, ServerEvent.probe)
        case .hello: return self.hello(transport, event)
        default: break
        }
        guard let session = transport.session else { return }
        if let received = try? event.received() { _ = session.machine.outbox.acknowledge(received) }
        switch event.name {
        case .ping:
            self.write(transport, ServerEvent.pong(data: event.pingData, received: session.machine.tellReceived()))
        case .pong, .ack, .probe, .hello: break
        case .auth, .subscribe, .message, .unsubscribe, .other:
            if session.machine.countReceived() {
                self.write(transport, ServerEvent.ack(received: session.machine.tellReceived()))
            }
            self.command(session, event)
        }
    }

    private func hello(_ transport: Transport, _ event: ClientEvent) {
        var session: Session?
        var repeated: [EncodedEvent] = []
        if let resume = event.object["resume"], let object = try? JSONObject(parsing: resume.raw),
            let old = object["session"]?.string.flatMap({ self.sessions[$0] })
        {
            let previous = old.transport
            if let events = old.machine.resume(received: object["received"]?.unsignedInteger ?? .max) {
                session = old
                repeated = events
            } else {
                self.sessions[old.id] = nil
            }
            previous?.session = nil
            old.transport = nil
            if let previous { self.close(previous, .sessionReplaced) }
        }
        let isResumed = session != nil
        self.lastSession += 1
        let current = session ?? Session(id: "s\(1_000_000 + self.lastSession).secret")
        self.sessions[current.id] = current
        current.transport = transport
        current.generation += 1
        transport.session = current
        self.watch(transport)
        let received = isResumed ? current.machine.tellReceived() : nil
        self.write(
            transport,
            JSONWriter.object { json in
                json.member("event", "hello")
                json.member("status", "ok")
                json.member("session", current.id)
                json.member("resumed", isResumed)
                if let received { json.member("received", received) }
                json.member("spread", 1)
            })
        for event in repeated { self.write(transport, event.json) }
    }

    private func command(_ session: Session, _ event: ClientEvent) {
        func reply(_ more: (inout ServerEvent.Reply) -> Void = { _ in }) {
            var reply = ServerEvent.Reply(event: event.name.text)
            reply.subscription = event.object["subscription"]
            reply.id = event.object["id"]
            more(&reply)
            self.push(session, ServerEvent.reply(reply, dialect: .native))
        }
        let name = event.object["subscription"]?.string ?? ""
        switch event.name {
        case .message:
            self.executed.append((session.id, event.object["id"]?.string ?? ""))
            let answer = ServerEvent.Reply(event: "message", id: event.object["id"])
            let fast = self.random.next()
            self.clock.after(Int(fast * fast * fast * fast * 3000)) {
                guard self.sessions[session.id] === session else { return }
                self.push(session, ServerEvent.reply(answer, dialect: .native))
            }
        case .unsubscribe:
            session.topics.remove(name)
            reply()
        case .subscribe:
            session.topics.insert(name)
            self.subscribe(session, self.topic(name), since: event.object["since"].flatMap { Position($0) }, reply)
        case .auth, .ping, .hello, .probe, .pong, .ack, .other: break
        }
    }

    private func subscribe(
        _ session: Session,
        _ topic: Topic,
        since: Position?,
        _ reply: ((inout ServerEvent.Reply) -> Void) -> Void
    ) {
        guard topic.isStored else { return reply { _ in } }
        let position = Position(epoch: topic.epoch, offset: topic.offset)
        guard let since else { return reply { $0.position = position } }
        let isSame = since.epoch == topic.epoch && since.offset <= topic.offset
        let rest = topic.history.filter { !isSame || $0.offset > since.offset }
        let next = rest.first?.offset ?? topic.offset + 1
        let isRecovered = isSame && next == since.offset + 1
        reply {
            $0.position = position
            $0.recovered = isRecovered
        }
        if !isRecovered {
            let gap = Gap(subscription: topic.name, after: isSame ? since.offset : nil, next: next)
            self.gaps.insert(gap)
            self.push(session, ServerEvent.gap(subscription: gap.subscription, after: gap.after, next: gap.next))
        }
        for publication in rest { self.push(session, self.message(topic, publication)) }
    }
}

extension ServerEvent.Reply {
    fileprivate init(event: String, id: JSONValue?) {
        self.init(event: event)
        self.id = id
    }
}
