import NIOCore

/// How a connection's one direction ends.
enum StreamEnd: Equatable, Sendable {
    /// FIN: nothing more follows, all that was sent arrives.
    case finish
    /// RST: the connection is gone.
    case reset
}

/// One direction of one relayed connection: decides what becomes of each byte and of its end.
///
/// Sans-IO: fed with what the near socket read and with the state of the line, it says what to do with the far socket.
struct Pipe {
    /// What the network does to this direction just now.
    enum Line: Equatable, Sendable {
        case whole
        case swallows
        case holds
    }

    private enum State: Equatable {
        /// Nothing was lost.
        case intact
        /// The end has been passed on.
        case ended
        /// Something was lost: data must never follow a hole, so nothing passes any more.
        case dead
    }

    private var state: State = .intact
    /// Waits for the line or for the far socket, in the order in which it came; only while `.intact`.
    private var held: CircularBuffer<ByteBuffer> = []
    private var heldEnd: StreamEnd?

    private(set) var line: Line
    /// Whether there is a far socket to write to.
    private(set) var farIsOpen: Bool

    init(line: Line, farIsOpen: Bool) {
        self.line = line
        self.farIsOpen = farIsOpen
    }

    // MARK: What the near socket did

    enum BytesAction: Equatable {
        case pass(ByteBuffer)
        case swallow(bytes: Int)
        case hold
    }

    mutating func received(_ bytes: ByteBuffer) -> BytesAction {
        switch self.state {
        case .intact:
            switch self.line {
            case .swallows:
                self.state = .dead
                return .swallow(bytes: bytes.readableBytes)
            case .whole where self.farIsOpen:
                return .pass(bytes)
            case .whole, .holds:
                self.held.append(bytes)
                return .hold
            }
        case .ended, .dead:
            return .swallow(bytes: bytes.readableBytes)
        }
    }

    enum EndAction: Equatable {
        case pass(StreamEnd)
        case swallow
        case hold
    }

    /// A RST may follow a FIN; it then takes its place, for it says more.
    mutating func ended(_ end: StreamEnd) -> EndAction {
        switch self.state {
        case .intact, .ended:
            switch self.line {
            case .swallows:
                self.state = .dead
                return .swallow
            case .whole where self.farIsOpen:
                self.state = .ended
                return .pass(end)
            case .whole, .holds:
                self.state = .intact
                self.heldEnd = end
                return .hold
            }
        case .dead:
            return .swallow
        }
    }

    // MARK: What happened to the line and to the far socket

    /// What to do with that which was held until now.
    struct Release: Equatable {
        /// To be written to the far socket, in this order, before `end`.
        var pass: CircularBuffer<ByteBuffer> = []
        var end: StreamEnd?
        var swallowedBytes = 0
        var swallowedEnds = 0
    }

    mutating func lineChanged(to line: Line) -> Release {
        self.line = line
        return self.release()
    }

    mutating func farOpened() -> Release {
        self.farIsOpen = true
        return self.release()
    }

    /// The far socket is gone: whatever comes is for nobody.
    mutating func farGone() -> Release {
        self.farIsOpen = false
        let lost = self.loseHeld()
        self.state = .dead
        return lost
    }

    private mutating func release() -> Release {
        switch self.line {
        case .swallows: self.loseHeld()
        case .whole where self.farIsOpen: self.passHeld()
        case .whole, .holds: Release()
        }
    }

    /// Data that was under way when the line began to swallow is lost like any other.
    private mutating func loseHeld() -> Release {
        guard !self.held.isEmpty || self.heldEnd != nil else { return Release() }
        let bytes = self.held.reduce(0) { $0 + $1.readableBytes }
        let lost = Release(swallowedBytes: bytes, swallowedEnds: self.heldEnd == nil ? 0 : 1)
        self.held.removeAll()
        self.heldEnd = nil
        self.state = .dead
        return lost
    }

    private mutating func passHeld() -> Release {
        let passed = Release(pass: self.held, end: self.heldEnd)
        self.held.removeAll()
        self.heldEnd = nil
        if passed.end != nil {
            self.state = .ended
        }
        return passed
    }

    // MARK: Questions

    /// Whether the near socket may be read: never more than the far socket takes, except to throw it away.
    func mayRead(farIsWritable: Bool) -> Bool {
        switch self.state {
        case .dead:
            true
        case .intact, .ended:
            switch self.line {
            case .swallows: true
            case .holds: false
            case .whole: self.farIsOpen && farIsWritable
            }
        }
    }

    /// Whether something was lost in this direction, so that it stays silent for good.
    var isDead: Bool { self.state == .dead }
}
