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
struct Pipe: ~Copyable {
    /// What the network does to this direction just now.
    enum Line: Equatable, Sendable {
        case whole
        case swallows
        case holds
    }

    private enum State: ~Copyable {
        /// Nothing was lost. `held` waits for the line or for the far socket, in the order in which it came.
        case intact(held: CircularBuffer<ByteBuffer>, end: StreamEnd?)
        /// The end has been passed on.
        case ended
        /// Something was lost: a hole must never be followed by data, so nothing passes any more.
        case dead
    }

    private var state: State = .intact(held: [], end: nil)
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
        switch consume self.state {
        case .intact(var held, let end):
            switch self.line {
            case .swallows:
                self.state = .dead
                return .swallow(bytes: bytes.readableBytes)
            case .whole where self.farIsOpen:
                self.state = .intact(held: held, end: end)
                return .pass(bytes)
            case .whole, .holds:
                held.append(bytes)
                self.state = .intact(held: held, end: end)
                return .hold
            }
        case .ended:
            self.state = .ended
            return .swallow(bytes: bytes.readableBytes)
        case .dead:
            self.state = .dead
            return .swallow(bytes: bytes.readableBytes)
        }
    }

    enum EndAction: Equatable {
        case pass(StreamEnd)
        case swallow
        case hold
    }

    mutating func ended(_ end: StreamEnd) -> EndAction {
        switch consume self.state {
        case .intact(let held, _):
            switch self.line {
            case .swallows:
                self.state = .dead
                return .swallow
            case .whole where self.farIsOpen:
                self.state = .ended
                return .pass(end)
            case .whole, .holds:
                // A RST after a FIN takes its place: it says more.
                self.state = .intact(held: held, end: end)
                return .hold
            }
        case .ended:
            // The FIN has passed and a RST follows it, now or when the line is whole; a second FIN cannot be. On a line
            // that is cut now the RST is one more thing that got lost.
            switch self.line {
            case .whole:
                self.state = .ended
                return .pass(end)
            case .swallows:
                self.state = .dead
                return .swallow
            case .holds:
                self.state = .intact(held: [], end: end)
                return .hold
            }
        case .dead:
            self.state = .dead
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

    /// The far socket is gone without this direction having ended it: whatever comes is for nobody.
    mutating func farGone() -> Release {
        self.farIsOpen = false
        var release = Release()
        self.kill(&release)
        return release
    }

    private mutating func release() -> Release {
        var release = Release()
        switch self.line {
        case .swallows:
            self.loseHeld(&release)
        case .holds:
            break
        case .whole where self.farIsOpen:
            self.passHeld(&release)
        case .whole:
            break
        }
        return release
    }

    /// Data that was under way when the line began to swallow is lost like any other.
    private mutating func loseHeld(_ release: inout Release) {
        switch consume self.state {
        case .intact(let held, let end) where held.isEmpty && end == nil:
            self.state = .intact(held: held, end: end)
        case .intact(let held, let end):
            release.swallowedBytes = held.reduce(0) { $0 + $1.readableBytes }
            release.swallowedEnds = end == nil ? 0 : 1
            self.state = .dead
        case .ended:
            self.state = .ended
        case .dead:
            self.state = .dead
        }
    }

    private mutating func passHeld(_ release: inout Release) {
        switch consume self.state {
        case .intact(let held, let end):
            release.pass = held
            release.end = end
            self.state = end == nil ? .intact(held: [], end: nil) : .ended
        case .ended:
            self.state = .ended
        case .dead:
            self.state = .dead
        }
    }

    private mutating func kill(_ release: inout Release) {
        self.loseHeld(&release)
        self.state = .dead
    }

    // MARK: Questions

    /// Whether the near socket may be read: never more than the far socket takes, except to throw it away.
    func mayRead(farIsWritable: Bool) -> Bool {
        switch self.state {
        case .dead: true
        case .intact, .ended:
            switch self.line {
            case .swallows: true
            case .holds: false
            case .whole: self.farIsOpen && farIsWritable
            }
        }
    }

    /// Whether something was lost in this direction, so that it stays silent for good.
    var isDead: Bool {
        switch self.state {
        case .dead: true
        case .intact, .ended: false
        }
    }
}
