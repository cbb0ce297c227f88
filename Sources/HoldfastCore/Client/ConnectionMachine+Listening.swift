import HoldfastProtocol

/// How an HTTP line hears.
extension ConnectionMachine {
    /// Begins to listen on main, and tells what was received so far.
    /// - Parameter anew: it was cut, and not because nothing lives there.
    private mutating func listen(anew: Bool = false) {
        guard var line = self.main else { return }
        let isFirst = line.listenAt == nil
        // What has happened since it was opened may speak against streams.
        if isFirst { line.transport = self.ladder.fallback(now: self.now) ?? line.transport }
        var wait: Span?
        if line.transport == .poll {
            line.wait = min(self.liveness.interval, self.longestPoll ?? self.liveness.interval)
            wait = line.wait
            self.liveness.slack = .zero
            // The answer is the sign of life. Only what was heard, or a shorter wait, gives it new time.
            if anew || self.liveness.askedAt == nil {
                let answer = line.wait + self.roundTrip.wait
                self.liveness.asked(now: self.now, wait: answer, inDoubt: self.liveness.isDoubted)
            }
        } else {
            self.liveness.slack = Self.streamSlack
            // Where there is nothing else, a stream is waited for like any other line.
            if isFirst, self.ladder.allowsPolls { line.wordBy = self.now + Self.firstWord }
        }
        line.listenAt = self.now
        self.main = line
        self.act(.listen(line: line.id, transport: line.transport, received: self.received, wait: wait))
        self.told()
    }

    /// A comment, or the end of an answer.
    mutating func spoken(_ id: Int) {
        guard let line = self.main, line.id == id, line.phase == .live else { return }
        self.heard()
        if line.transport == .poll || line.listenAt == nil { self.listen() }
    }

    /// The request that listens has ended without a word.
    mutating func cut(_ id: Int) {
        guard let line = self.main, line.id == id, line.phase == .live, let listenAt = line.listenAt else { return }
        let age = self.now - listenAt
        if line.transport == .stream, !line.hasSpoken, self.ladder.allowsPolls { return self.listenByPoll() }
        guard age >= Self.shortestListen else {
            self.letGo(line)
            return self.lost(.main, .lineClosed)
        }
        let isEarly = line.transport == .poll && age < line.wait
        if isEarly {
            self.longestPoll = max(Self.shortestListen, .milliseconds((age.milliseconds * 0.7).rounded(.down)))
        }
        self.listen(anew: isEarly)
    }

    /// The first word of the stream is late: something keeps it.
    mutating func missFirstWord() {
        self.ladder.poll(until: self.now + TransportLadder.afterBufferedStream)
        self.listenByPoll()
    }

    private mutating func listenByPoll() {
        self.main?.transport = .poll
        self.main?.wordBy = nil
        self.listen()
    }
}
