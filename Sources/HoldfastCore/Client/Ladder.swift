/// Which transport is tried when (client.md, The ladder).
///
/// "The server is away" and "this network eats WebSockets" are two facts: a WebSocket that failed says the second only if
/// the fallback works meanwhile. What failed waits for this evidence; where the fallback fails too, nothing is counted.
/// What counts is remembered, and so holds over restarts, and for all that share the memory.
struct TransportLadder {
    /// A WebSocket that has answered, until it has lived.
    private struct Life {
        let attempt: Instant
        let since: Instant
    }

    private let transports: [ClientTransport]
    let allowsPolls: Bool
    /// Whether there is anything to choose.
    let climbs: Bool

    private var memory = LadderMemory()
    /// The memory has changed, and nobody was told.
    private var hasNews = false
    /// The WebSocket that has not answered yet. Attempts are named by their time.
    private var attempt: Instant?
    /// Those that failed, and it is not known yet whether the fallback works.
    private var unanswered: [Instant] = []
    /// The same of one that died young, and not for the first time.
    private var dying: Instant?
    private var life: Life?
    /// Attempts that we have put into the memory. Another client may write without knowing them.
    private var own: [Instant] = []
    /// The last death that we know of, ours or another client's.
    private var diedAt = Self.always
    /// An attempt is wanted, in spite of a verdict.
    private var askedAt: Instant?
    /// Rounds in a row in which the fallback failed.
    private var outages = 0

    private static let always = Instant(microseconds: .min)
    /// A WebSocket that lived this long works here.
    private static let livedAfter = Span.seconds(60)
    /// After the first strike.
    private static let secondTry = Span.seconds(30)
    /// In any time so long at most `budget` WebSockets of no use, while the fallback works.
    private static let budgetTime = Span.seconds(900)
    private static let budget = 2
    private static let attemptsKept = 8
    private static let term = Span.seconds(3600)
    private static let longestTerm = Span.seconds(86_400)
    private static let restTime = Span.seconds(900)
    private static let shortestQuiet = Span.seconds(1)
    /// Times pass through the wall clock of each client, and come back a little different.
    private static let sameAttempt = Span.milliseconds(100)
    /// How long streams are not tried after one that was kept in a buffer.
    static let afterBufferedStream = Span.seconds(3600)

    /// - Parameter transports: that may be used; the first one that is no WebSocket is the fallback.
    init(_ transports: [ClientTransport]) {
        self.transports = transports
        self.allowsPolls = transports.contains(.poll)
        self.climbs = transports.contains(.websocket) && transports.contains { $0 != .websocket }
    }

    // MARK: Questions

    func fallback(now: Instant) -> ClientTransport? {
        if self.allowsPolls, let pollUntil = self.memory.pollUntil, now < pollUntil { return .poll }
        return self.transports.first { $0 != .websocket }
    }

    /// Nothing but a WebSocket is left, whatever is known of it.
    var isDesperate: Bool { self.climbs && self.outages >= 2 }

    /// From when on a WebSocket may be tried; `nil`: never. It does not move with the clock.
    var due: Instant? {
        guard self.climbs else { return self.transports.first == .websocket ? Self.always : nil }
        guard self.dying == nil else { return nil }
        let attempts = self.memory.attempts
        var due = Self.always
        if attempts.count >= Self.budget { due = attempts[attempts.count - Self.budget] + Self.budgetTime }
        if let askedAt = self.askedAt { return max(due, askedAt) }
        if self.memory.strikes > 0, let last = attempts.last { due = max(due, last + Self.secondTry) }
        return max(due, self.memory.until ?? Self.always, self.memory.rest ?? Self.always)
    }

    /// What a round starts with.
    /// - Parameter isSuspect: the line that carries the session is.
    func start(now: Instant, isSuspect: Bool) -> ClientTransport {
        guard let fallback = self.fallback(now: now) else { return .websocket }
        let dies = isSuspect && self.youngLife(now: now) != nil && (self.memory.deaths > 0 || self.memory.until != nil)
        guard let due = self.due, due <= now, !dies else { return fallback }
        return .websocket
    }

    /// The longest quiet that a WebSocket may have, where they died young.
    var longestQuiet: Span? {
        guard self.memory.deaths >= 2, let life = self.memory.life else { return nil }
        return max(Self.shortestQuiet, .milliseconds((life.milliseconds / 2).rounded(.down)))
    }

    /// When the WebSocket has lived, if there is something to forget then.
    var livedAt: Instant? {
        guard let life = self.life, !self.isBlank else { return nil }
        return life.since + Self.livedAfter
    }

    /// The end of a verdict that is not over.
    func blockedUntil(now: Instant) -> Instant? { self.memory.until.flatMap { now < $0 ? $0 : nil } }

    func verdict(now: Instant) -> WebSocketStanding {
        if self.blockedUntil(now: now) != nil { return .blocked }
        return self.memory.rest.map { now < $0 } == true ? .resting : .unknown
    }

    /// What is to be kept; `nil` if nothing is known.
    var kept: LadderMemory? { self.isBlank ? nil : self.memory }

    /// - Returns: whether ``kept`` has changed since this was asked the last time.
    mutating func takeNews() -> Bool {
        defer { self.hasNews = false }
        return self.hasNews
    }

    // MARK: Facts

    /// A WebSocket is tried.
    /// - Parameter isDesperate: no fallback works that could be counted against it.
    mutating func opened(now: Instant, isDesperate: Bool) {
        guard self.climbs else { return }
        self.life = self.youngLife(now: now)
        self.askedAt = nil
        self.attempt = now
        if !isDesperate { self.enter(now) }
    }

    /// It has answered hello.
    mutating func answered(now: Instant) {
        if let attempt = self.attempt { self.life = Life(attempt: attempt, since: now) }
        self.passed()
    }

    /// WebSockets answer here: the undecided ones were of no use for another reason.
    mutating func passed() {
        if let attempt = self.attempt { self.unanswered.append(attempt) }
        self.attempt = nil
        self.forgive()
    }

    /// It was not answered.
    mutating func failed() {
        if let attempt = self.attempt, self.own.contains(attempt) { self.unanswered.append(attempt) }
        self.attempt = nil
    }

    /// The WebSocket that carried the session is gone.
    /// - Parameter isAbnormal: nobody said why.
    mutating func ended(now: Instant, isAbnormal: Bool) {
        let young = isAbnormal ? self.youngLife(now: now) : nil
        self.life = nil
        guard let young else { return }
        self.enter(young.attempt)
        let lived = now - young.since
        self.memory.life = min(self.memory.life ?? lived, lived)
        // What kills the lines of all clients at once is one death.
        if young.since >= self.diedAt { self.memory.deaths = min(self.memory.deaths + 1, 3) }
        self.diedAt = now
        if self.memory.deaths >= 2 || self.memory.until != nil { self.dying = young.attempt }
    }

    /// It has lived, so WebSockets work here: all is forgotten, but for what the budget has spent.
    mutating func lived() {
        self.life = nil
        self.dying = nil
        self.memory = LadderMemory(attempts: self.memory.attempts)
        self.hasNews = true
    }

    /// The fallback works, so what failed has itself to blame.
    mutating func works(now: Instant) {
        guard !self.unanswered.isEmpty || self.dying != nil else { return }
        var isGuilty = self.memory.until != nil
        if !self.unanswered.isEmpty {
            self.memory.strikes += 1
            if self.memory.strikes >= 2 { isGuilty = true }
        }
        if self.dying != nil, self.memory.deaths >= 3 { isGuilty = true }
        if isGuilty {
            self.block(now: now)
        } else if self.dying != nil {
            self.memory.rest = now + Self.restTime
        }
        self.unanswered = []
        self.dying = nil
        self.hasNews = true
    }

    /// The fallback has carried more than hello.
    mutating func carries() {
        self.outages = 0
    }

    /// The fallback has failed too: the server is away, or the whole network.
    mutating func away() {
        self.outages += 1
        if let dying = self.dying {
            self.memory.deaths = max(0, self.memory.deaths - 1)
            self.unanswered.append(dying)
        }
        self.dying = nil
        self.forgive()
    }

    /// The app has finished in the middle of it: what stands in the memory stays there, as if the process were gone.
    mutating func left() {
        self.attempt = nil
        self.dying = nil
        self.life = nil
        self.unanswered = []
    }

    /// Another network, or the app's wish.
    mutating func ask(now: Instant) {
        if self.attempt == nil, self.life == nil { self.askedAt = now }
    }

    /// Streams do not come through.
    mutating func poll(until: Instant) {
        self.memory.pollUntil = until
        self.hasNews = self.climbs
    }

    /// What we, or another client, have remembered. Perhaps nonsense.
    mutating func recall(_ given: LadderMemory?, now: Instant) {
        guard self.climbs else { return }
        let given = given ?? LadderMemory()
        // A clock that was put back has left attempts in the future.
        let isRecent = { (at: Instant) in at > now - Self.budgetTime && at <= now + Self.sameAttempt }
        let deaths = self.memory.deaths
        self.life = self.youngLife(now: now)
        self.memory = LadderMemory(
            attempts: given.attempts.filter(isRecent),
            strikes: min(max(given.strikes, 0), 2),
            until: given.until.map { min($0, now + Self.longestTerm) },
            term: min(max(given.term, Self.term), Self.longestTerm),
            deaths: min(max(given.deaths, 0), 3),
            life: given.life.flatMap { $0 < .zero ? nil : min($0, Self.livedAfter) },
            rest: given.rest.map { min($0, now + Self.restTime) },
            pollUntil: given.pollUntil.map { min($0, now + Self.afterBufferedStream) }
        )
        if self.memory.deaths > deaths { self.diedAt = now }
        self.sort()
        // The other client could not know what we have just written. What it has left out as too old stays out, or this
        // had no end.
        let isFull = self.memory.attempts.count == Self.attemptsKept
        let own = self.own.filter(isRecent)
        self.own = []
        for attempt in own {
            if self.index(of: attempt) != nil {
                self.own.append(attempt)
            } else if !isFull || self.memory.attempts.first.map({ attempt > $0 }) == true {
                self.enter(attempt)
            }
        }
    }

    // MARK: Within

    private var isBlank: Bool {
        self.memory.attempts.isEmpty && self.memory.strikes == 0 && self.memory.deaths == 0 && self.memory.until == nil
            && self.memory.rest == nil && self.memory.pollUntil == nil
    }

    /// A WebSocket that has lived vouches for what was before, and not for what comes.
    private func youngLife(now: Instant) -> Life? {
        self.life.flatMap { now - $0.since < Self.livedAfter ? $0 : nil }
    }

    private mutating func block(now: Instant) {
        // Doubled where the attempt at its end has failed; another one changes nothing that was not known.
        if let until = self.memory.until, until <= now {
            self.memory.term = min(self.memory.term * 2, Self.longestTerm)
        }
        self.memory.until = now + self.memory.term
        self.memory.strikes = 0
    }

    private mutating func enter(_ attempt: Instant) {
        self.own.append(attempt)
        self.memory.attempts.append(attempt)
        self.sort()
        self.hasNews = true
    }

    private mutating func sort() {
        self.memory.attempts.sort()
        self.memory.attempts.removeFirst(max(0, self.memory.attempts.count - Self.attemptsKept))
    }

    private func index(of attempt: Instant) -> Int? {
        self.memory.attempts.firstIndex { abs(($0 - attempt).microseconds) <= Self.sameAttempt.microseconds }
    }

    /// Takes the undecided ones out of the memory.
    private mutating func forgive() {
        for attempt in self.unanswered {
            self.own.removeAll { $0 == attempt }
            guard let index = self.index(of: attempt) else { continue }
            self.memory.attempts.remove(at: index)
            self.hasNews = true
        }
        self.unanswered = []
    }
}
