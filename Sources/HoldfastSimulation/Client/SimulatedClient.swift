import HoldfastCore
import HoldfastProtocol
import NIOCore

/// An app with the real client machine in it: carries out what the machine wants, as HoldfastClient does, and lives through
/// what happens to clients.
final class SimulatedClient {
    let index: Int
    let path = Path()
    private let agenda: Agenda
    private let dice: Dice
    private let connect: (SimulatedClient, _ node: Int?) -> Pipe
    private let report: (SimulatedClient, ConnectionNews) -> Void
    private let options: ConnectionMachine.Options
    /// How fast the clock of this client runs.
    private let clockRate: Double
    private let clockOffset: Int64
    private(set) var machine: ConnectionMachine
    private(set) var lines: [Int: any SimulatedLine] = [:]
    private let listens = SimulatedHTTPLine.Listens()
    private var timer: Appointment?
    private var inputs = CircularBuffer<ConnectionInput>()
    private var isBusy = false
    /// The computer sleeps: what comes waits in its kernel.
    private var sleepers = 0
    var isAsleep: Bool { self.sleepers > 0 }
    /// Timers fire at whole minutes only.
    private var throttlers = 0
    private var hiders = 0
    private var offliners = 0
    private var memory: LadderMemory?
    /// Each start of the app is another life; lines of an earlier one are nobody's.
    private var life = 0
    private(set) var commands = 0
    /// Called before a line is opened, and when it is gone: by itself, or because it was let go.
    var onOpen: (any SimulatedLine) -> Void = { _ in }
    var onEnded: (any SimulatedLine) -> Void = { _ in }

    init(
        index: Int,
        plan: Plan,
        agenda: Agenda,
        connect: @escaping (SimulatedClient, _ node: Int?) -> Pipe,
        report: @escaping (SimulatedClient, ConnectionNews) -> Void
    ) {
        self.index = index
        self.agenda = agenda
        self.connect = connect
        self.report = report
        let dice = Dice(seed: plan.seed, purpose: 1000 + UInt64(index))
        self.dice = dice
        self.clockRate = 1 + plan.clockDrift * (2 * dice.share() - 1)
        self.clockOffset = Int64(dice.between(0, 1e9))
        self.path.usualLatency = plan.latency
        self.path.jitter = plan.jitter
        var options = ConnectionMachine.Options()
        options.queueBytes = plan.bounds.clientQueueBytes
        self.options = options
        self.machine = ConnectionMachine(options: options) { dice.share() }
    }

    // MARK: Time

    private var now: Instant {
        Instant(microseconds: self.clockOffset + Int64(Double(self.agenda.now) * self.clockRate))
    }

    private func setTimer(_ at: Instant?) {
        self.timer?.cancel()
        self.timer = nil
        guard let at else { return }
        var time = Int64((Double(at.microseconds - self.clockOffset) / self.clockRate).rounded(.up)) + 1
        if self.throttlers > 0 {
            let minute: Int64 = 60_000_000
            time = (max(time, self.agenda.now) / minute + 1) * minute
        }
        self.timer = self.agenda.appointment(at: time) { self.input(.timer) }
    }

    // MARK: The machine

    func input(_ input: ConnectionInput) {
        self.inputs.append(input)
        guard !self.isBusy, self.sleepers == 0 else { return }
        self.isBusy = true
        while let input = self.inputs.popFirst() { self.handle(input) }
        self.isBusy = false
    }

    private func handle(_ input: ConnectionInput) {
        var written: [Int] = []
        for action in self.machine.handle(input, now: self.now) {
            switch action {
            case .open(let line, let transport): self.open(line, transport)
            case .send(let line, let text, let number):
                self.lines[line]?.send(text, number: number)
                if !written.contains(line) { written.append(line) }
            case .listen(let line, let transport, let received, let wait):
                self.lines[line]?.listen(transport, received: received, wait: wait)
            case .remember(let memory): self.memory = memory
            case .close(let id, let code):
                guard let line = self.lines.removeValue(forKey: id) else { break }
                line.letGo(code: code)
                self.onEnded(line)
            case .timer(let at): self.setTimer(at)
            case .tell(let news): self.report(self, news)
            }
        }
        for line in written { self.lines[line]?.flush() }
    }

    private func open(_ id: Int, _ transport: ClientTransport) {
        let life = self.life
        let surroundings = LineSurroundings(agenda: self.agenda, dice: self.dice) { node in
            self.connect(self, node)
        } tell: { [weak self] line, news in
            guard let self, self.life == life else { return }
            self.heard(line, news)
        }
        let line: any SimulatedLine =
            transport == .websocket
            ? SimulatedWebSocketLine(id: id, surroundings)
            : SimulatedHTTPLine(id: id, transport, self.listens, surroundings)
        self.lines[id] = line
        self.onOpen(line)
        line.begin()
    }

    private func heard(_ id: Int, _ news: LineNews) {
        guard let line = self.lines[id] else { return }
        switch news {
        case .opened: self.input(.opened(line: id))
        case .received(let text): self.input(.receive(line: id, text: text))
        case .heard: self.input(.heard(line: id))
        case .cut: self.input(.cut(line: id))
        case .closed(let code, let reason, let retryAfter):
            self.lines[id] = nil
            self.onEnded(line)
            self.input(.closed(line: id, code: code, reason: reason, retryAfter: retryAfter))
        }
    }

    // MARK: The app

    func nextCommand() -> String {
        self.commands += 1
        return "c\(self.index)-\(self.commands)"
    }

    /// The page is loaded anew; what it was told to remember is there.
    func reload() {
        self.life += 1
        self.timer?.cancel()
        self.inputs = []
        for id in self.lines.keys.sorted() { self.lines[id]?.letGo(code: nil) }
        self.lines = [:]
        let dice = self.dice
        self.machine = ConnectionMachine(options: self.options) { dice.share() }
        if let memory = self.memory { self.input(.memory(memory)) }
        if self.hiders > 0 { self.input(.hidden) }
        if self.offliners > 0 { self.input(.offline) }
        self.input(.connect)
    }

    // MARK: What happens to clients

    func sleep(_ isOn: Bool) {
        self.sleepers += isOn ? 1 : -1
        guard !isOn, self.sleepers == 0, !self.isBusy else { return }
        self.isBusy = true
        while let input = self.inputs.popFirst() { self.handle(input) }
        self.isBusy = false
    }

    func hide(_ isOn: Bool) {
        self.hiders += isOn ? 1 : -1
        if self.hiders == (isOn ? 1 : 0) { self.input(isOn ? .hidden : .shown) }
    }

    func throttle(_ isOn: Bool) {
        self.throttlers += isOn ? 1 : -1
        self.hide(isOn)
    }

    func offline(_ isOn: Bool) {
        self.offliners += isOn ? 1 : -1
        self.path.cutToServer += isOn ? 1 : -1
        self.path.cutToClient += isOn ? 1 : -1
        if self.offliners == (isOn ? 1 : 0) { self.input(isOn ? .offline : .online) }
    }
}
