/// What is to come, in the order of time and, within a millisecond, in the order in which it was planned.
///
/// One list for each millisecond: a million clients plan tens of millions of events, and a heap would sort them all.
struct HerdTimeline {
    struct Event {
        let client: Int32
        let fact: HerdFact
    }

    private var slots: [[Event]]
    private var current: [Event] = []
    private var index = 0
    private(set) var now = 0

    /// - Parameter end: in ms; what is planned beyond it does not happen.
    init(end: Int) {
        self.slots = Array(repeating: [], count: end + 1)
    }

    mutating func plan(_ fact: HerdFact, for client: Int, at time: Int) {
        let time = max(time, self.now)
        guard time < self.slots.count else { return }
        let event = Event(client: Int32(client), fact: fact)
        if time == self.now { self.current.append(event) } else { self.slots[time].append(event) }
    }

    /// Goes on to the next event, or to `end`.
    /// - Returns: `nil` when nothing comes before `end`, which is now.
    mutating func next(before end: Int) -> Event? {
        while self.now < end {
            if self.index < self.current.count {
                defer { self.index += 1 }
                return self.current[self.index]
            }
            guard self.now + 1 < self.slots.count else { return nil }
            self.now += 1
            self.current = self.slots[self.now]
            self.slots[self.now] = []
            self.index = 0
        }
        return nil
    }
}

/// What happens to a client.
enum HerdFact {
    /// It wants to be connected.
    case connect
    case timer
    /// A connect arrives at the gateway; `tries` says how often its TCP has sent it.
    case knock(line: Int32, tries: UInt8)
    /// The gateway has taken the connection: its first answer is on its way.
    case taken(line: Int32)
    case opened(line: Int32)
    /// `retryAfter` in seconds; negative: none was said.
    case refused(line: Int32, retryAfter: Int32)
    case answer(line: Int32, HerdAnswer)
    /// The line ended without a word.
    case lost
}

/// What the gateway says on a line.
enum HerdAnswer {
    /// `spread` in ms.
    case hello(spread: Int32)
    case probe
    case pong(Int32)
    /// `window` in ms.
    case goaway(window: Int32)
    /// The drain's deadline.
    case close
    /// A comment of a stream.
    case comment
}
