import TestSupport
import Testing

@testable import HoldfastCore

/// Lanes whose work is called after its name and place: `a1`, `a2`, `b1`; work without a name is `!1`.
private struct TestLanes {
    var lanes = Lanes<String>()
    private var count: [String: Int] = [:]

    /// - Returns: whether it started.
    mutating func submit(_ name: String) -> Bool {
        self.count[name, default: 0] += 1
        return self.lanes.submit("\(name)\(self.count[name] ?? 0)", name == "!" ? nil : name)
    }

    /// - Returns: those that started.
    mutating func submit(all names: String) -> [String] {
        names.map(String.init).filter { self.submit($0) }
    }

    mutating func finish(_ name: String) -> [String] { self.lanes.finished(name == "!" ? nil : name) }
}

@Suite struct LanesTests {
    @Test func idle() {
        var test = TestLanes()
        #expect(test.lanes.isIdle)
        #expect(test.lanes.waitingCount == 0)
        #expect(test.submit("a") == true)
        #expect(!test.lanes.isIdle)
        #expect(test.finish("a") == [])
        #expect(test.lanes.isIdle)
    }

    @Test func theSameNameInOrder() {
        var test = TestLanes()
        #expect(test.submit(all: "aaa") == ["a"])
        #expect(test.lanes.waitingCount == 2)
        #expect(test.finish("a") == ["a2"])
        #expect(test.finish("a") == ["a3"])
        #expect(test.lanes.waitingCount == 0)
        #expect(!test.lanes.isIdle)
        #expect(test.finish("a") == [])
        #expect(test.lanes.isIdle)
    }

    @Test func differentNamesSideBySide() {
        var test = TestLanes()
        #expect(test.submit(all: "abc") == ["a", "b", "c"])
        #expect(test.submit(all: "cba") == [])
        #expect(test.finish("b") == ["b2"])
        #expect(test.finish("c") == ["c2"])
        // A lane that is slow holds up no other.
        #expect(test.finish("c") == [])
        #expect(test.submit("c") == true)
    }

    @Test func theEmptyNameIsANameToo() {
        var test = TestLanes()
        #expect(test.lanes.submit("x", "") == true)
        #expect(test.lanes.submit("y", "a") == true)
        #expect(test.lanes.submit("z", "") == false)
        #expect(test.lanes.finished("") == ["z"])
    }

    @Test func workWithoutANameWaitsForAll() {
        var test = TestLanes()
        #expect(test.submit(all: "ab!") == ["a", "b"])
        #expect(test.finish("a") == [])
        #expect(test.finish("b") == ["!1"])
        #expect(test.finish("!") == [])
        #expect(test.lanes.isIdle)
    }

    @Test func workWithoutANameWaitsForWhatWaits() {
        var test = TestLanes()
        #expect(test.submit(all: "aa!") == ["a"])
        #expect(test.finish("a") == ["a2"])
        #expect(test.finish("a") == ["!1"])
    }

    @Test func nothingPassesWorkWithoutAName() {
        var test = TestLanes()
        #expect(test.submit(all: "a!bc") == ["a"])
        #expect(test.finish("a") == ["!1"])
        #expect(test.submit(all: "db") == [])
        #expect(test.finish("!") == ["b1", "c1", "d1"])
        #expect(test.finish("b") == ["b2"])
    }

    @Test func workWithoutANameAtOnce() {
        var test = TestLanes()
        #expect(test.submit("!") == true)
        #expect(test.submit("a") == false)
        #expect(test.submit("!") == false)
        #expect(test.submit("a") == false)
        #expect(test.finish("!") == ["a1"])
        #expect(test.finish("a") == ["!2"])
        #expect(test.finish("!") == ["a2"])
    }

    @Test func severalWithoutANameInOrder() {
        var test = TestLanes()
        #expect(test.submit(all: "!!!") == ["!"])
        #expect(test.finish("!") == ["!2"])
        #expect(test.finish("!") == ["!3"])
        #expect(test.finish("!") == [])
        #expect(test.lanes.isIdle)
    }

    @Test func whatMayStartComesInOrder() {
        var test = TestLanes()
        #expect(test.submit(all: "!cabacb!a") == ["!"])
        #expect(test.finish("!") == ["c1", "a1", "b1"])
        #expect(test.finish("b") == ["b2"])
        #expect(test.finish("a") == ["a2"])
        #expect(test.finish("c") == ["c2"])
        #expect(test.finish("c") == [])
        #expect(test.finish("a") == [])
        #expect(test.finish("b") == ["!2"])
        #expect(test.finish("!") == ["a3"])
    }
}

/// Random work against what must hold, which is checked on a plain list of everything that came.
@Suite struct LanesModelTests {
    private enum State { case waiting, running, done }

    private struct Model {
        var work: [(name: String?, state: State)] = []

        /// Work may run once nothing before it is in its way.
        func mayRun(_ index: Int) -> Bool {
            let name = self.work[index].name
            return !self.work[..<index].contains { other in
                other.state != .done && (name == nil || other.name == nil || other.name == name)
            }
        }

        var running: [Int] { self.work.indices.filter { self.work[$0].state == .running } }

        /// What should have started by now, and what should not have.
        func complaint() -> String? {
            for index in self.work.indices where self.work[index].state != .done {
                let isRunning = self.work[index].state == .running
                if isRunning, !self.mayRun(index) { return "\(index) runs too soon" }
                if !isRunning, self.mayRun(index) { return "\(index) does not run" }
            }
            let names = self.running.map { self.work[$0].name }
            if names.contains(nil), names.count > 1 { return "work without a name is not alone" }
            if Set(names).count < names.count { return "two of one name run" }
            return nil
        }
    }

    @Test(arguments: 0..<100 as Range<UInt64>)
    func everythingRunsInItsTurn(_ seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var lanes = Lanes<Int>()
        var model = Model()
        let names = ["a", "b", "c", "d"].prefix(Int.random(in: 1...4, using: &generator))
        let exclusiveOneIn = Int.random(in: 2...10, using: &generator)
        let total = 60
        while model.work.count < total || !model.running.isEmpty {
            let isSubmit =
                model.work.count < total && (model.running.isEmpty || Int.random(in: 0..<5, using: &generator) < 3)
            if isSubmit {
                let isExclusive = Int.random(in: 0..<exclusiveOneIn, using: &generator) == 0
                let name = isExclusive ? nil : names.randomElement(using: &generator)
                let didStart = lanes.submit(model.work.count, name)
                model.work.append((name, didStart ? .running : .waiting))
            } else if let index = model.running.randomElement(using: &generator) {
                model.work[index].state = .done
                let started = lanes.finished(model.work[index].name)
                #expect(started == started.sorted(), "seed \(seed)")
                for index in started {
                    #expect(model.work[index].state == .waiting, "seed \(seed): \(index) started twice")
                    model.work[index].state = .running
                }
            }
            if let complaint = model.complaint() {
                Issue.record("seed \(seed), after \(model.work.count): \(complaint)")
                return
            }
            #expect(lanes.waitingCount == model.work.count { $0.state == .waiting })
        }
        #expect(model.work.allSatisfy { $0.state == .done }, "seed \(seed)")
        #expect(lanes.isIdle)
    }
}
