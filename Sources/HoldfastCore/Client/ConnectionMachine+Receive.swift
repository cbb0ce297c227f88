import HoldfastProtocol
import NIOCore

/// What the server says.
extension ConnectionMachine {
    mutating func receive(_ id: Int, _ text: ByteBuffer) {
        guard let role = self.role(of: id), let line = self.line(role) else { return }
        let event = WireEvent(text)
        // On HTTP a count answers what was sent, and says nothing about the way down.
        if line.phase == .live, line.transport == .websocket || event.name != "ack" { self.heard() }
        if !event.isReadable {
            // It was sent as an event, so it counts as one.
            let text = "The server sent what is not an event."
            self.tell(.problem(ConnectionProblem(code: "unreadable", text: text)))
        }
        switch line.phase {
        case .opening: return
        case .probing:
            if event.name == "probe" { self.move(role) }
        case .hello:
            if event.name == "hello" { self.welcome(event) }
        case .live:
            switch event.name {
            case "hello": self.receivedHello(event, on: line)
            case "probe", "ping": return
            case "pong": self.receivedPong(event)
            case "ack": self.receivedCount(event)
            case "goaway": self.receivedGoaway(event)
            default:
                self.receivedCounted(event)
                self.count(bytes: text.readableBytes)
            }
        }
    }

    /// On main.
    mutating func heard() {
        guard let main = self.main else { return }
        if main.listenAt != nil, !main.hasSpoken {
            self.main?.hasSpoken = true
            self.main?.wordBy = nil
            self.ladder.carries()
        }
        self.isForgiven = false
        guard self.liveness.heard(now: self.now), self.moving == nil else { return }
        // A false alarm: it has cost one connection, and the server's session was never touched.
        self.attemptAt = nil
        if main.transport == .websocket {
            self.ladder.passed()
        } else {
            self.ladder.works(now: self.now)
            if self.rival?.transport == .websocket { return }  // We want that one anyway.
        }
        guard let rival = self.rival else { return }
        self.letGo(rival)
        self.rival = nil
        self.raceNotBefore = self.now + Self.racePause
    }

    /// On a line that has had its hello. Over HTTP that is the answer to a request of a session that is no more.
    private mutating func receivedHello(_ event: WireEvent, on line: Line) {
        guard line.transport != .websocket, event.status == "error" else { return }
        self.session = nil
        self.letGo(line)
        self.lost(.main, .lineClosed)
    }

    private mutating func receivedPong(_ event: WireEvent) {
        self.pongBy = nil
        if let ping = self.ping, event["data"]?.string == ping.data {
            let roundTrip = self.now - ping.at
            self.ping = nil
            _ = self.liveness.heard(now: self.now, isAnswer: true)
            self.roundTrip.sample(roundTrip)
            self.tell(.roundTrip(roundTrip, estimate: self.roundTrip.estimate ?? roundTrip))
        }
        self.receivedCount(event)
    }

    private mutating func receivedCount(_ event: WireEvent) {
        guard let received = event["received"] else { return }
        guard self.outbox.acknowledge(received.unsignedInteger) else { return self.tellBadCount(event) }
        self.wantCount()
    }

    /// What the server has not counted after an interval, we ask for.
    mutating func wantCount() {
        self.countAt = self.outbox.unacknowledgedCount > 0 ? self.now + self.liveness.interval : nil
    }

    mutating func tellBadCount(_ event: WireEvent) {
        self.tellProblem("bad_count", "The server's count of our events cannot be.", event)
    }

    /// An error that the server has sent, or none and then this one.
    mutating func tellProblem(_ code: String, _ text: String, _ event: WireEvent) {
        let problem = ConnectionProblem(code: event.code ?? code, text: event.error ?? text, event: event)
        self.tell(.problem(problem))
    }

    private mutating func receivedGoaway(_ event: WireEvent) {
        let range = self.backoff.range(event.retryAfter) ?? .zero...self.backoff.spread
        let at = self.now + self.backoff.draw(from: range)
        self.tell(.goaway(at: at, event: event))
        self.moving = .goaway
        if self.wasUseful { self.backoff.failures = 0 }
        guard self.rival == nil else { return }
        self.attemptAt = at
        self.attemptNotBefore = at
    }

    /// One more counted event of the server.
    private mutating func count(bytes: Int) {
        let isFirst = self.received == self.acknowledged
        self.received += 1
        if self.main?.transport == .poll { return }  // The next one tells it.
        if isFirst { self.ackAt = self.now + self.liveness.interval }
        self.unacknowledgedBytes += bytes
        if self.received - self.acknowledged >= Self.ackEvents || self.unacknowledgedBytes >= Self.ackBytes {
            self.sendAck()
        }
    }

    private mutating func receivedCounted(_ event: WireEvent) {
        if event.isReply, let id = event.id, let command = self.outbox.answer(id) {
            return self.answered(command, event)
        }
        if !event.isReply, let subscription = event.subscription {
            guard let topic = self.topics[subscription], topic.isActive else { return }
            switch event.name {
            case "message": return self.deliver(topic, event)
            case "gap": return self.receivedGap(topic, event)
            case "unsubscribe": return self.drop(subscription, event)
            default: break
            }
        }
        if event.status == "error" { self.tellProblem("server_error", "The server gave no reason.", event) }
    }

    private mutating func answered(_ command: ClientCommand, _ event: WireEvent) {
        switch command.kind {
        case .subscribe:
            guard let topic = self.topics[command.subscription], topic.id == command.id else {
                return  // The app has subscribed anew meanwhile.
            }
            if event.status == "ok" { return self.subscribed(topic, event) }
            self.drop(topic.name, event)
        case .unsubscribe where event.status == "ok":
            self.ended(command, event)
        case .unsubscribe, .message, .auth:
            self.tell(.reply(id: command.id ?? "", event: event))
        }
    }
}
