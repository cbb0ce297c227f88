import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOHTTP1

/// `POST /session` and what hangs below it (protocol.md, Endpoints), for clients that no WebSocket reaches.
///
/// Requests of one session come over any connection, so on any loop. A stream fetches the session to its own loop, since it
/// writes at every delivery; polls and batches, which end soon, go to the loop that has the session.
extension SessionExchange {
    private enum Endpoint {
        case open
        case send(SessionName.Handle)
        case stream(SessionName.Handle)
        case poll(SessionName.Handle)

        var method: HTTPMethod { if case .stream = self { .GET } else { .POST } }

        /// - Parameter path: what follows the prefix.
        init?(_ path: Substring) {
            let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
            guard parts.first == "session" else { return nil }
            switch (parts.count, parts.last) {
            case (1, _): self = .open
            // A name that cannot be is unknown like any other.
            case (3, "send"): self = .send(SessionName.Handle(parts[2]) ?? .init(0))
            case (3, "stream"): self = .stream(SessionName.Handle(parts[2]) ?? .init(0))
            case (3, "poll"): self = .poll(SessionName.Handle(parts[2]) ?? .init(0))
            default: return nil
            }
        }
    }

    /// Whether a path (what follows the prefix) is served here.
    static func serves(_ path: Substring) -> Bool {
        path.hasPrefix("/session") && (path.count == 8 || path.dropFirst(8).first.map { "/?".contains($0) } == true)
    }

    /// The request is complete.
    func serve() {
        guard let endpoint = Endpoint(self.path) else {
            return self.refuse(.notFound, ProtocolError("There is no such path.", code: "not_found"))
        }
        let method = endpoint.method.rawValue
        if self.method == .OPTIONS { return self.answerPreflight(method) }
        guard self.method == endpoint.method else {
            return self.refuse(
                .methodNotAllowed,
                ProtocolError("This path knows only \(method).", code: "method_not_allowed"),
                [("Allow", "\(method), OPTIONS")]
            )
        }
        switch endpoint {
        case .open: self.open()
        case .send(let handle): self.name(handle).map(self.send)
        case .stream(let handle): self.name(handle).map(self.openStream)
        case .poll(let handle): self.name(handle).map(self.poll)
        }
    }

    /// - Returns: `nil` if there is no secret; the request has been answered.
    private func name(_ handle: SessionName.Handle) -> SessionName? {
        guard let secret = self.secret else {
            self.refuseUnknownSession()
            return nil
        }
        return SessionName(handle: handle, secret: secret)
    }

    private func refuseBody(_ what: String) {
        self.refuse(
            .badRequest,
            ProtocolError("The body must be \(what); see docs/protocol.md, Endpoints.", code: "bad_request"))
    }

    /// Two levels more than an event has by itself.
    private var limits: JSONLimits {
        var limits = self.shard.limits.json
        limits.depth += 2
        return limits
    }

    /// Most events of one request: what fits into its bytes, at `{"event":""}` each.
    private var mostEvents: Int { self.shard.limits.messageBytes / 12 + 1 }

    // MARK: POST /session

    private func open() {
        let limits = self.limits
        guard let array = try? JSONValue(parsing: self.takeBody(), limits: limits),
            let values = try? array.elements(limit: self.mostEvents, limits: limits),
            let first = values.first.flatMap({ try? ClientEvent(parsing: $0.raw, limits: limits) })
        else { return self.refuseBody("a JSON array of events, the first of them hello") }
        switch first.name {
        case .probe where values.count == 1:
            self.answer(.ok, [ByteBuffer(string: "["), ServerEvent.probe, ByteBuffer(string: "]")])
        case .hello: self.greet(first, Array(values.dropFirst()))
        default: self.refuseBody("a JSON array of events, the first of them hello")
        }
    }

    private func greet(_ event: ClientEvent, _ rest: [JSONValue]) {
        let gateway = self.shard.gateway
        if let refusal = gateway.refusal {
            return self.refuse(.serviceUnavailable, refusal, [("Retry-After", "1")])
        }
        let hello: ClientHello
        do throws(ProtocolError) {
            hello = try ClientHello(event, limits: self.limits)
        } catch {
            let reply = ServerEvent.reply(ServerEvent.Reply(event: "hello", error: error), dialect: .native)
            return self.answer(.ok, [ByteBuffer(string: "["), reply, ByteBuffer(string: "]")])
        }
        let transport = PollTransport(shard: self.shard, remote: self.remote)
        let ticket = gateway.registry.nextTicket()
        self.onGone = { transport.requestGone(ticket) }
        // Answered with what there is at the end of the turn, which is the reply at least.
        transport.wait(
            SharedExchange(self), ticket: ticket, .opening,
            until: self.shard.now + .seconds(self.shard.limits.handshakeTime))
        self.shard.greet(hello, on: transport) {
            if self.isGone { transport.drop() }
            return !self.isGone
        } completion: { greeting in
            switch greeting {
            case .session(let session): session.receive(batch: rest, after: nil)
            case .superseded: transport.close(.sessionReplaced, reason: "session replaced by a newer transport")
            case .full:
                let error = ProtocolError.tooManySessions(limit: self.shard.limits.sessions)
                self.refuse(.serviceUnavailable, error, [gateway.retryWhenFull])
                transport.drop()
            }
        }
    }

    // MARK: send

    private func send(_ name: SessionName) {
        let limits = self.limits
        guard let body = try? JSONObject(parsing: self.takeBody(), limits: limits),
            let number = body["seq"]?.unsignedInteger, number > 0,
            let events = try? body["events"]?.elements(limit: self.mostEvents, limits: limits)
        else { return self.refuseBody("{\"seq\":number from 1 on,\"events\":[...]}") }
        let shared = SharedExchange(self)
        self.shard.withSession(name) { session in
            guard let session else { return shared.on { $0.refuseUnknownSession() } }
            guard session.isOverHTTP else { return shared.on { $0.refuse(.conflict, .replaced) } }
            let received = session.core.received
            guard number <= received + 1 else {
                let json = JSONWriter.object { json in
                    json.error(.batchMissing(number, received: received), dialect: .native)
                    json.member("received", received)
                }
                return shared.on { $0.answer(.conflict, json) }
            }
            session.receive(batch: events, after: number - 1)
            guard session.core.state != .ended else { return shared.on { $0.refuseUnknownSession() } }
            let reply = JSONWriter.object { $0.member("received", session.core.tellReceived()) }
            shared.on { $0.answer(.ok, reply) }
        }
    }

    // MARK: stream

    private func openStream(_ name: SessionName) {
        self.isListening = true
        guard let received = self.queryNumber("received") else {
            return self.refuse(
                .badRequest, ProtocolError("The query must be received=COUNT of events.", code: "bad_request"))
        }
        let number = self.queryNumber("number")
        guard number != 0, number != nil || !self.query.contains("number=") else {
            return self.refuse(
                .badRequest, ProtocolError("number must be a whole number from 1 on.", code: "bad_request"))
        }
        self.shard.find(name, isOverHTTP: true) { found in
            guard !self.isGone else {
                if case .session(let session) = found { session.transportMissed() }
                return
            }
            switch found {
            case .session(let session):
                guard session.isNewest(number) else {
                    session.transportMissed()
                    return self.refuse(.conflict, .replaced)
                }
                guard let events = session.takeOver(received: received) else { return self.refuseUnknownSession() }
                session.carry(events, on: StreamTransport(self, shard: self.shard))
            case .refused(.unknown): self.refuseUnknownSession()
            case .refused: self.refuse(.conflict, .replaced)
            }
        }
    }

    private func queryNumber(_ name: String) -> UInt64? {
        for pair in self.query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1)
            if parts.count == 2, parts[0] == name { return UInt64(parts[1]) }
        }
        return nil
    }

    // MARK: poll

    private func poll(_ name: SessionName) {
        self.isListening = true
        guard let body = try? JSONObject(parsing: self.takeBody(), limits: self.limits),
            let received = body["received"]?.unsignedInteger, let wait = body["wait"]?.double, wait >= 0
        else { return self.refuseBody("{\"received\":count,\"wait\":seconds}") }
        guard body["number"].map({ ($0.unsignedInteger ?? 0) > 0 }) ?? true else {
            return self.refuseBody("{\"received\":count,\"wait\":seconds,\"number\":whole number from 1 on}")
        }
        let until = self.shard.now + .seconds(min(wait, self.shard.limits.pollTime))
        let shared = SharedExchange(self)
        let ticket = self.shard.gateway.registry.nextTicket()
        let number = body["number"]?.unsignedInteger
        let remote = self.remote
        self.onGone = { [shard = self.shard] in
            shard.withSession(name) { session in (session?.transport as? PollTransport)?.requestGone(ticket) }
        }
        self.shard.withSession(name) { session in
            guard let session else { return shared.on { $0.refuseAfterTheEnd(name) } }
            guard session.isOverHTTP, session.isNewest(number) else {
                return shared.on { $0.refuse(.conflict, .replaced) }
            }
            let poll: PollTransport
            if let current = session.transport as? PollTransport {
                poll = current
                guard session.goOn(received: received) else { return shared.on { $0.refuseUnknownSession() } }
            } else {
                guard let events = session.takeOver(received: received) else {
                    return shared.on { $0.refuseUnknownSession() }
                }
                poll = PollTransport(shard: session.shard, remote: remote)
                session.carry(events, on: poll)
            }
            poll.wait(shared, ticket: ticket, .poll, until: until)
            if !session.queue.isEmpty { session.shard.markDirty(session) }
        }
    }

    /// There is no such session; perhaps it had something to say when it ended.
    private func refuseAfterTheEnd(_ name: SessionName) {
        guard let word = self.shard.gateway.registry.lastWord(of: name) else { return self.refuseUnknownSession() }
        self.answer(
            .ok,
            JSONWriter.object { json in
                json.member("events", array: { _ in })
                json.member("close", object: { $0.closeWord(word.code, word.reason) })
            })
    }
}

extension Shard {
    /// Runs `body` on the loop that has the session, or on any with `nil` if there is none of that name and secret.
    func withSession(_ name: SessionName, tries: Int = 0, _ body: @escaping @Sendable (Session?) -> Void) {
        guard let index = self.gateway.registry.shard(of: name.handle), tries < Self.mostTries else { return body(nil) }
        let owner = self.gateway.shards[index]
        let look: @Sendable () -> Void = {
            if let session = owner.sessions[name.handle] { return body(session.name == name ? session : nil) }
            // It is on its way to another loop, or has just ended.
            owner.loop.scheduleTask(in: .milliseconds(1)) { owner.withSession(name, tries: tries + 1, body) }
        }
        if owner.loop.inEventLoop { look() } else { owner.loop.execute(look) }
    }
}

extension Session {
    /// Events of one request, in order.
    /// - Parameter after: how many counted events the client had sent before; those that have come already are ignored.
    ///   `nil`: with its `hello`, whose answer tells the client how many were received.
    func receive(batch: [JSONValue], after: UInt64?) {
        let before = self.core.received
        var known = after.map { before - min($0, before) } ?? 0
        for value in batch {
            guard self.core.state != .ended else { return }
            do throws(ProtocolError) {
                let event = try ClientEvent(parsing: value.raw, limits: self.shard.limits.json)
                if event.isCounted, known > 0 {
                    known -= 1
                } else {
                    self.receive(event)
                }
            } catch {
                self.receiveInvalid(value.raw, error)
            }
        }
        (self.transport as? PollTransport)?.touch()
        guard after == nil, self.core.received > before, self.core.state != .ended else { return }
        self.send(ServerEvent.ack(received: self.core.tellReceived()), isCounted: false)
    }
}

extension ProtocolError {
    static func tooManySessions(limit: Int) -> ProtocolError {
        .limitExceeded("The number of sessions", limit: limit, actual: limit + 1)
    }

    static let replaced = ProtocolError("A newer transport carries this session.", code: "replaced")

    static func batchMissing(_ number: UInt64, received: UInt64) -> ProtocolError {
        ProtocolError(
            "Events are missing: the batch begins with number \(number), but only \(received) came before.",
            code: "bad_seq"
        )
    }
}
