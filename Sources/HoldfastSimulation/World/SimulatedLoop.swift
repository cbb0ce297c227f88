import Dispatch
import NIOCore

/// An event loop in virtual time: runs the gateway's own code, one thing after the other, when the agenda says so.
///
/// `@unchecked Sendable`: a simulation has one thread, and so has everything in it.
final class SimulatedLoop: EventLoop, @unchecked Sendable {
    private let agenda: Agenda
    private let owner: LoopOwner
    /// The process is gone: what it had planned does not happen.
    private var isAlive = true
    /// Called after something has run.
    var onStep: () -> Void = {}

    init(_ agenda: Agenda, owner: LoopOwner) {
        self.agenda = agenda
        self.owner = owner
    }

    var inEventLoop: Bool { self.owner.running === self }
    var now: NIODeadline { .uptimeNanoseconds(UInt64(self.agenda.now) * 1000) }

    /// Runs something on this loop at once. Nothing happens if the process is gone.
    func run(_ body: () -> Void) {
        guard self.isAlive else { return }
        let before = self.owner.running
        self.owner.running = self
        body()
        if self.isAlive { self.onStep() }
        self.owner.running = before
    }

    func die() {
        self.isAlive = false
        self.onStep = {}
    }

    func execute(_ task: @escaping @Sendable () -> Void) {
        guard self.isAlive else { return }
        self.agenda.plan(at: self.agenda.now) { self.run(task) }
    }

    func scheduleTask<T>(deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        let promise = self.makePromise(of: T.self)
        let appointment = self.agenda.appointment(at: Int64(deadline.uptimeNanoseconds / 1000)) {
            self.run { promise.complete(task) }
        }
        return Scheduled(promise: promise) { appointment.cancel() }
    }

    func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        self.scheduleTask(deadline: self.now + delay, task)
    }

    func submit<T>(_ task: @escaping @Sendable () throws -> T) -> EventLoopFuture<T> {
        let promise = self.makePromise(of: T.self)
        self.execute { promise.complete(task) }
        return promise.futureResult
    }

    // Loops have nothing to shut down, and nobody asks them to.
    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        queue.async { callback(nil) }
    }
}

/// Which loop runs just now.
final class LoopOwner {
    fileprivate var running: SimulatedLoop?
}

extension EventLoopPromise {
    /// Everything in a simulation is on one thread, so nothing is sent anywhere.
    fileprivate func complete(_ task: () throws -> Value) {
        do {
            self.assumeIsolatedUnsafeUnchecked().succeed(try task())
        } catch {
            self.fail(error)
        }
    }
}

/// The loops of one gateway.
final class SimulatedLoops: EventLoopGroup {
    let loops: [SimulatedLoop]

    init(_ loops: [SimulatedLoop]) { self.loops = loops }

    func next() -> any EventLoop { self.loops[0] }
    func any() -> any EventLoop { self.loops[0] }
    func makeIterator() -> EventLoopIterator { EventLoopIterator(self.loops) }

    func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        queue.async { callback(nil) }
    }
}
