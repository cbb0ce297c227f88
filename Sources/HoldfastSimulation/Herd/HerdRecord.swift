/// What is counted from the event on.
struct HerdRecord {
    /// In ms. Windows of 100 ms are made of these, beginning at each.
    static let grain = 10
    static let window = 100

    /// Attempts of each grain; index 0 is the event.
    private(set) var attempts: [Int32] = []
    /// The same without those of a client that has knocked less than a window before.
    private(set) var knocks: [Int32] = []
    private(set) var total = 0
    /// When each client was back; -1: not yet.
    private(set) var back: [Int32]
    private(set) var backCount = 0
    private var last: [Int32]
    private var start = 0

    init(clients: Int) {
        self.back = Array(repeating: -1, count: clients)
        self.last = Array(repeating: .min, count: clients)
    }

    /// From here on. - Parameter now: the event.
    mutating func begin(at now: Int) {
        let clients = self.back.count
        self = HerdRecord(clients: clients)
        self.start = now
    }

    mutating func knock(_ client: Int, at now: Int) {
        let time = Int32(now - self.start)
        let grain = Int(time) / Self.grain
        while self.attempts.count <= grain {
            self.attempts.append(0)
            self.knocks.append(0)
        }
        self.attempts[grain] += 1
        self.total += 1
        if self.last[client] == .min || time - self.last[client] >= Self.window { self.knocks[grain] += 1 }
        self.last[client] = time
    }

    mutating func isBack(_ client: Int, at now: Int) {
        guard self.back[client] < 0 else { return }
        self.back[client] = Int32(now - self.start)
        self.backCount += 1
    }
}
