"""The English words of the problem generator. How they are read: `wordings/__init__.py`.

A line "= operands; quantities" begins a scenario: the names of its operands (of variables in programs) and of what
each line of the plan finds. The lines below it are its sentences, each in a few phrasings. "+ - * /" in front of a
line: the sentence that tells this operation of a story. Operands stand in the order of their letters.
"""

NAMES = ("Tom", "Amy", "Sam", "Mia", "Ben", "Eva", "Leo", "Ann")
ITEMS = ("pens", "cups", "eggs", "books", "apples", "cards", "stamps", "balls")
UNITS = ("",) * len(ITEMS)
CLOSING = "The answer is \\boxed{{{answer}}}."
FIRST = ("First find {}, then {}.", "We need {}, then {}.", "Let us compute {} and then {} in Python.")
ONLY = ("Find {} in Python.", "We need {}.", "A short program finds {}.")
THEN = ("Now find {}.", "With this, find {}.", "The next step gives {}.")
UNNAMED = {
    "story": (
        "Let us follow the changes one by one in Python.",
        "Do the operations in the order of the story.",
    ),
    "value": ("Let Python work out the expression.", "This is one expression for Python."),
    "larger": ("Let Python compare the fractions.", "Compare the fractions exactly in Python."),
    "equation": ("Let us solve the equation with sympy.", "Write down the equation and let sympy solve it."),
    "system": ("Let us solve the two equations with sympy.", "Sympy can solve both equations together."),
    "roots": (
        "Let us find both roots with sympy and take the right one.",
        "Sympy finds the roots of the equation.",
    ),
}
CARRY = ("Now use this to go on.", "Let us go on from there.")

TEXT = """
[story]
= {item}
{name} has {a} {item}. | At first {name} has {a} {item}. | {name} starts the week with {a} {item}.
+ {name} buys {b} more. | {name} gets {b} more. | Then {name} finds {b} more.
- {name} gives away {b}. | {name} sells {b}. | Then {name} loses {b}.
* Then {name} has {b} times as many. | After that {name} has {b} times as many. | With a gift {name} then has {b} times as many.
How many {item} does {name} have now? | How many {item} are there now? | What is the number of {item} in the end?
= people
A bus has {a} people. | There are {a} people on a bus. | A bus leaves the station with {a} people.
+ {b} get on. | Then {b} get on. | At a stop {b} people get on.
- {b} get off. | Then {b} get off. | At a stop {b} people get off.
How many people are on the bus? | How many people are there now? | How many people does the bus carry in the end?
= {item}
A shop has {a} {item}. | At first a shop has {a} {item}. | On Monday a shop has {a} {item}.
+ It gets {b} more. | Then it gets {b} more. | A truck brings it {b} more.
- It sells {b}. | Then it sells {b}. | Customers buy {b} of them.
* Then it has {b} times as many. | After that it has {b} times as many. | With a large delivery it then has {b} times as many.
/ It keeps one of {b} equal parts. | It makes {b} equal parts and keeps one. | Then it puts them into {b} equal piles and keeps one pile.
How many {item} does it have? | How many {item} does it have now? | How many {item} are in the shop in the end?
= number
Start with {a}. | The first number is {a}. | Take the number {a}.
+ Add {b}. | Then add {b}. | Increase it by {b}.
- Take away {b}. | Then take away {b}. | Subtract {b} from it.
* Multiply by {b}. | Then multiply by {b}. | Make it {b} times as large.
/ Divide by {b}. | Then divide by {b}. | Split it into {b} equal parts and take one.
What is the result? | What is the number now? | Which number do you get in the end?

[value]
=
Compute {form}. | What is {form}? | Find the value of {form}. | Work out {form}.
[equation]
=
Solve {form} for x. | If {form}, what is x? | Find x: {form}.
[system]
=
Solve {form} for x. | If {form}, what is x? | Find x: {form}. | Two equations hold: {form}. What is x?
[positive_root]
= addend, result; square of x, x
Which positive number x solves {form}? | Find the positive x with {form}. | Solve {form} for a positive x.
[larger_root]
= sum of the roots, product of the roots; square of the sum, four times the product, difference of these, square root, twice the root, root
What is the larger root of {form}? | Solve {form} and give the larger solution. | Find the larger x with {form}.
[smaller_root]
= sum of the roots, product of the roots; square of the sum, four times the product, difference of these, square root, twice the root, root
What is the smaller root of {form}? | Solve {form} and give the smaller solution. | Find the smaller x with {form}.
[larger]
=
Which is larger, {f} or {g}? | Find the larger of {f} and {g}. | What is the maximum of {f} and {g}?
[largest]
=
Which is the largest of {f}, {g} and {h}? | Find the largest of {f}, {g} and {h}. | What is the maximum of {f}, {g} and {h}?

[share]
= number, part; result
What is {f} of {a}? | Find {f} of {a}. | How much is {f} of {a}?
= {item}, red part; number of red {item}
A shop has {a} {item}. | There are {a} {item} in a shop. | A shop orders {a} {item}.
{f} of them are red. | In this shop {f} of the {item} are red. | The red ones make up {f} of the {item}.
How many are red? | How many red {item} are there? | Find the number of red {item}.
= coins, spent part; coins spent
{name} has {a} coins. | {name} has saved {a} coins. | In the box of {name} there are {a} coins.
{name} spends {f} of them. | Of these, {f} are spent. | {name} spends {f} of this money on a gift.
How many coins are spent? | How many coins does {name} spend? | How many coins is that?
[spend_twice]
= coins, part for the book, part for the game; coins for the book, coins left after the book, coins for the game, coins left
{name} has {a} coins. | {name} has saved {a} coins. | In the box of {name} there are {a} coins.
{name} spends {f} of them on a book. | {name} uses {f} of them for a book. | For a book {name} pays {f} of this money.
Then {name} spends {g} of the rest on a game. | A game takes {g} of the rest. | Of the rest {name} spends {g} on a game.
How many coins are left? | How many coins does {name} still have? | How many coins remain in the end?
= pages, first part, second part; pages read on Monday, pages left after Monday, pages read on Tuesday, pages left
A book has {a} pages. | {name} is reading a book of {a} pages. | There are {a} pages in a book.
On Monday {name} reads {f} of the book, | {name} reads {f} of the book on Monday, | First, on Monday, {name} reads {f} of it,
and on Tuesday {g} of the rest. | and on Tuesday {g} of the pages that are left. | and {g} of the rest on Tuesday.
How many pages are left? | How many pages are still to be read? | How many pages remain after Tuesday?
[spend_earn]
= coins, part for the book, part for the game, coins earned; coins for the book, coins left after the book, coins for the game, coins left, coins in the end
{name} has {a} coins. | {name} has saved {a} coins. | In the box of {name} there are {a} coins.
{name} spends {f} of them on a book. | {name} uses {f} of them for a book. | For a book {name} pays {f} of this money.
Then {name} spends {g} of the rest on a game. | A game takes {g} of the rest. | Of the rest {name} spends {g} on a game.
Then {name} earns {h} coins. | After that {name} earns {h} coins. | Later {name} gets {h} coins for some work.
How many coins does {name} have now? | How many coins are there in the end? | How many coins has {name} at last?

[two_parts]
= hours, speed, more hours, new speed; first distance, second distance, total distance
A car drives {a} hours at {b} km an hour. | For {a} hours a car drives at {b} km an hour. | A car is on the road for {a} hours at {b} km an hour.
Then it drives {c} hours at {d} km an hour. | After that, for {c} hours, it drives at {d} km an hour. | For another {c} hours its speed is {d} km an hour.
How far does it go in all? | How many km does it go in all? | What distance does it cover altogether?
= pens, pen price, cups, cup price; cost of the pens, cost of the cups, total cost
{name} buys {a} pens at {b} coins each. | {name} buys {a} pens that cost {b} coins each. | {name} pays for {a} pens, each at {b} coins.
{name} also buys {c} cups at {d} coins each. | Then {name} buys {c} cups that cost {d} coins each. | The bill also has {c} cups at {d} coins each.
How many coins is that in all? | How many coins does {name} pay in all? | What is the total price in coins?
= days, daily pay, more days, new daily pay; first pay, second pay, total pay
{name} works {a} days for {b} coins a day. | For {a} days {name} gets {b} coins a day. | A job of {a} days brings {name} {b} coins a day.
Then {name} works {c} days for {d} coins a day. | After that, for {c} days, {name} gets {d} coins a day. | A second job of {c} days brings {d} coins a day.
How many coins does {name} get in all? | How many coins is that in all? | What does {name} earn altogether, in coins?
[proportion]
= {item}, cost, wanted {item}; cost of one, total cost
{a} {item} cost {b} coins. | The price of {a} {item} is {b} coins. | For {a} {item} a shop asks {b} coins.
How many coins do {c} {item} cost? | At this price, how many coins do {c} {item} cost? | What is the price of {c} such {item}, in coins?
= hours, distance, new hours; speed, new distance
In {a} hours a car goes {b} km. | A car needs {a} hours for {b} km. | It takes a car {a} hours to go {b} km.
How far does it go in {c} hours? | At this speed, how many km does it go in {c} hours? | Going on like this, how many km are done in {c} hours?
= days, pages, new days; pages per day, new pages
In {a} days {name} reads {b} pages. | {name} needs {a} days for {b} pages. | It takes {name} {a} days to read {b} pages.
How many pages does {name} read in {c} days? | At this speed, how many pages does {name} read in {c} days? | Going on like this, how many pages are read in {c} days?
= machines, {item} made, new machines; number made by one machine, number made by all
In an hour {a} machines make {b} {item}. | A factory has {a} machines that make {b} {item} an hour. | Together {a} equal machines make {b} {item} an hour.
How many {item} do {c} such machines make in an hour? | How many {item} come from {c} of these machines in an hour? | With {c} such machines, how many {item} are made in an hour?
[change]
= pens, pen price, cups, cup price, coins paid; cost of the pens, cost of the cups, total cost, change
{name} buys {a} pens at {b} coins each | In a shop {name} takes {a} pens at {b} coins each | {name} picks {a} pens that cost {b} coins each
and {c} cups at {d} coins each. | and also {c} cups at {d} coins each. | and {c} cups that cost {d} coins each.
{name} pays with {e} coins. | {name} gives {e} coins to the seller. | At the till {name} hands over {e} coins.
How many coins of change are there? | How many coins does {name} get back? | How much change, in coins, does {name} get?
[three_parts]
= pens, pen price, cups, cup price, books, book price; cost of the pens, cost of the cups, cost of the books, cost of pens and cups, total cost
{name} buys {a} pens at {b} coins each, | In a shop {name} takes {a} pens at {b} coins each, | {name} picks {a} pens that cost {b} coins each,
{c} cups at {d} coins each | then {c} cups at {d} coins each | also {c} cups that cost {d} coins each
and {e} books at {f} coins each. | and at last {e} books at {f} coins each. | and {e} books that cost {f} coins each.
How many coins is that in all? | How many coins does {name} pay in all? | What is the total price in coins?
= adults, adult price, children, child price, seniors, senior price; money from adults, money from children, money from seniors, money from adults and children, total money
A museum sells {a} tickets to adults at {b} coins each. | On Sunday {a} adults pay {b} coins each at a museum. | A museum counts {a} adults, who pay {b} coins each.
It sells {c} tickets to children at {d} coins each. | Then {c} children pay {d} coins each. | There are {c} children, who pay {d} coins each.
It sells {e} tickets to seniors at {f} coins each. | Also {e} seniors pay {f} coins each. | There are {e} seniors, who pay {f} coins each.
How many coins does the museum take in? | How many coins come in altogether? | What do all the tickets cost together, in coins?
[three_change]
= pens, pen price, cups, cup price, books, book price, coins paid; cost of the pens, cost of the cups, cost of the books, cost of pens and cups, total cost, change
{name} buys {a} pens at {b} coins each, | In a shop {name} takes {a} pens at {b} coins each, | {name} picks {a} pens that cost {b} coins each,
{c} cups at {d} coins each | then {c} cups at {d} coins each | also {c} cups that cost {d} coins each
and {e} books at {f} coins each. | and at last {e} books at {f} coins each. | and {e} books that cost {f} coins each.
{name} pays with {g} coins. | {name} gives {g} coins to the seller. | At the till {name} hands over {g} coins.
How many coins of change are there? | How many coins does {name} get back? | How much change, in coins, does {name} get?
[meeting]
= distance, first speed, second speed; speed of coming closer, hours until they meet
Two towns are {a} km apart. | The road between two towns is {a} km long. | There are {a} km of road between two towns.
A car leaves one town at {b} km an hour, and at the same time a truck leaves the other at {c} km an hour. | At the same time a car starts in one town at {b} km an hour and a truck in the other at {c} km an hour. | At noon a car leaves one town at {b} km an hour and a truck leaves the other at {c} km an hour.
They drive towards each other. | They use the same road, towards each other. | Each of them drives towards the other.
After how many hours do they meet? | How many hours does it take until they meet? | How many hours are they on the road before they meet?
[head_start]
= distance, truck speed, hours alone, car speed; distance of the truck alone, distance left, speed of coming closer, hours until they meet
Two towns are {a} km apart. | The road between two towns is {a} km long. | There are {a} km of road between two towns.
A truck leaves one town for the other at {b} km an hour. | From one town a truck starts for the other at {b} km an hour. | At {b} km an hour a truck sets out from one town to the other.
A car leaves the other town {c} hours later and comes towards the truck at {d} km an hour. | When the truck has driven {c} hours, a car starts towards it from the other town at {d} km an hour. | The truck is {c} hours on its way when a car leaves the other town towards it at {d} km an hour.
How many hours after the start of the car do they meet? | How many hours does the car drive until they meet? | For how many hours has the car driven when they meet?

[part]
= number, percent; result
What is {b}% of {a}? | Find {b}% of {a}. | How much is {b}% of {a}?
= {item}, percent; number of red {item}
A shop has {a} {item}. | There are {a} {item} in a shop. | A shop orders {a} {item}.
{b}% are red. | {b}% of them are red. | The red ones make up {b}% of the {item}.
How many are red? | How many red {item} are there? | Find the number of red {item}.
= coins, percent; coins spent
{name} has {a} coins | {name} has saved {a} coins | {name} is given {a} coins
and spends {b}%. | and spends {b}% of them. | and uses {b}% of this money.
How many coins are spent? | How many coins does {name} spend? | How many coins is that?
[less]
= number, percent; part, result
What is {a} decreased by {b}%? | Lower {a} by {b}%. What is the result?
= old price, percent; discount, new price
A bag costs {a} coins. | The price of a bag is {a} coins. | A shop sells a bag for {a} coins.
It is {b}% off. | The price goes down by {b}%. | In a sale the price falls by {b}%.
What is the new price in coins? | How many coins does it cost now? | How many coins is the bag now?
= coins, percent; coins spent, coins left
{name} has {a} coins | {name} has saved {a} coins | {name} is given {a} coins
and spends {b}%. | and spends {b}% of them. | and uses {b}% of this money.
How many coins are left? | How many coins does {name} still have? | How many coins remain?
[more]
= number, percent; part, result
What is {a} increased by {b}%? | Raise {a} by {b}%. What is the result?
= old price, percent; rise, new price
A bag costs {a} coins. | The price of a bag is {a} coins. | A shop sells a bag for {a} coins.
The price goes up by {b}%. | The price rises by {b}%. | In winter the price grows by {b}%.
What is the new price in coins? | How many coins does it cost now? | How many coins is the bag now?
= pupils, percent; new pupils, pupils now
A school had {a} pupils last year. | Last year there were {a} pupils in a school. | In a school {a} pupils were counted last year.
This year it has {b}% more. | This year their number is {b}% higher. | Since then the number has grown by {b}%.
How many pupils does it have now? | How many pupils are there this year? | Find the number of pupils this year.
[whole]
= percent, number; a hundred times the pupils, all pupils
In a school {a}% of the pupils come by bus. | Of all the pupils of a school {a}% come by bus. | The bus brings {a}% of the pupils of a school.
That is {b} pupils. | That makes {b} pupils. | They are {b} in number.
How many pupils does the school have? | How many pupils are there in all? | Find the number of all its pupils.
= percent, coins spent; a hundred times the coins, coins at first
{name} has saved some coins and spends {a}% of them, | On a trip {name} spends {a}% of the saved coins, | A bicycle takes {a}% of the coins that {name} saved,
which is {b} coins. | and that is {b} coins. | exactly {b} coins.
How many coins were saved at first? | How many coins were there before? | Find the number of coins saved at first.
[of_rest]
= pupils, percent boys, percent of the girls; number of boys, number of girls, number of girls in the choir
A school has {a} pupils, | There are {a} pupils in a school, | In a school {a} pupils are counted,
and {b}% of them are boys. | of whom {b}% are boys. | and the boys make up {b}% of them.
Of the girls {c}% sing in the choir. | Among the girls {c}% sing in the choir. | The choir takes in {c}% of the girls.
How many girls sing in the choir? | How many girls are in the choir? | Find the number of girls in the choir.
= coins, percent on rent, percent on food; coins for rent, coins after rent, coins for food
{name} earns {a} coins a month | {name} gets {a} coins each month | Every month {name} is paid {a} coins
and spends {b}% on rent. | and pays {b}% of it as rent. | and needs {b}% of that for rent.
Of the rest {c}% goes on food. | Food takes {c}% of what is left then. | After that {name} spends {c}% of the rest on food.
How many coins a month go on food? | How many coins does food cost each month? | What does {name} spend on food each month, in coins?
[up_down]
= old price, percent up, percent down; rise, raised price, fall, new price
A bicycle costs {a} coins. | The price of a bicycle is {a} coins. | A shop sells a bicycle for {a} coins.
First the price goes up by {b}%, | In spring the price rises by {b}%, | The shop raises the price by {b}%,
then the new price goes down by {c}%. | and later this new price falls by {c}%. | and in autumn the raised price is cut by {c}%.
What does the bicycle cost in the end, in coins? | How many coins does it cost in the end? | What is the last price in coins?
[order]
= chairs, chair price, percent off, percent tax; price before discount, discount, price after discount, tax, total price
A school orders {a} chairs at {b} coins each. | A school buys {a} chairs that cost {b} coins each. | For a school {a} chairs are ordered at {b} coins each.
It gets {c}% off the total. | The seller takes {c}% off the total. | On the whole order there is a discount of {c}%.
Then {d}% tax is added to the reduced price. | On the reduced price {d}% tax has to be paid. | To this lower price {d}% tax is added.
How many coins does the school pay? | What does the school pay, in coins? | How many coins is the bill?

[difference]
= first factor, second factor, third factor, fourth factor; first product, second product, difference
How much larger is {a}*{b} than {c}*{d}? | By how much is {a}*{b} larger than {c}*{d}?
= boxes, {item} per box, other boxes, {item} per other box; number of {item} of {name}, number of {item} of {other}, difference
{name} has {a} boxes of {b} {item}. | {name} has {a} boxes with {b} {item} in each. | {name} fills {a} boxes with {b} {item} each.
{other} has {c} boxes of {d} {item}. | {other} has {c} boxes with {d} {item} in each. | {other} fills {c} boxes with {d} {item} each.
How many more {item} has {name}? | How many more {item} does {name} have than {other}? | By how many {item} is {name} ahead?
[difference_more]
= boxes, {item} per box, loose {item}, other boxes, {item} per other box, other loose {item}; {item} of {name} in boxes, all {item} of {name}, {item} of {other} in boxes, all {item} of {other}, difference
{name} has {a} boxes of {b} {item} and {c} loose ones. | {name} has {a} boxes with {b} {item} in each, and {c} more {item}. | In {a} boxes {name} has {b} {item} each, and outside them {c} more.
{other} has {d} boxes of {e} {item} and {f} loose ones. | {other} has {d} boxes with {e} {item} in each, and {f} more {item}. | In {d} boxes {other} has {e} {item} each, and outside them {f} more.
How many more {item} has {name}? | How many more {item} does {name} have than {other}? | By how many {item} is {name} ahead of {other}?
[difference_days]
= first days, first pages, more days, more pages, days of the other, pages of the other, later days, later pages; pages of {name} at first, pages of {name} later, all pages of {name}, pages of {other} at first, pages of {other} later, all pages of {other}, difference
For {a} days {name} reads {b} pages a day, | {name} reads for {a} days, {b} pages each day, | On each of {a} days {name} reads {b} pages,
then for {c} days {d} pages a day. | and after that for {c} days {d} pages each day. | and on each of the next {c} days {d} pages.
{other} reads for {e} days, {f} pages a day, | For {e} days {other} reads {f} pages a day, | On each of {e} days {other} reads {f} pages,
then {g} days, {h} pages a day. | and after that for {g} days {h} pages each day. | and on each of the next {g} days {h} pages.
How many more pages has {name} read than {other}? | By how many pages is {name} ahead of {other}? | How many pages more are there for {name} than for {other}?

[number_plus]
= factor, addend, result; product, number
{name} thinks of a number, | {name} takes a number, | {name} writes a number on a card,
multiplies it by {a} and adds {b}. | multiplies it by {a}, then adds {b}. | first multiplies it by {a} and then adds {b}.
The result is {c}. | That gives {c}. | In the end it is {c}.
What is the number? | What number was it at first? | Find the number.
[number_minus]
= factor, number taken away, result; product, number
{name} thinks of a number, | {name} takes a number, | {name} writes a number on a card,
multiplies it by {a} and takes away {b}. | multiplies it by {a}, then takes away {b}. | first multiplies it by {a} and then subtracts {b}.
The result is {c}. | That gives {c}. | In the end it is {c}.
What is the number? | What number was it at first? | Find the number.
[number_back]
= addend, factor, number taken away, divisor, result; number before the division, product, increased number, number
{name} thinks of a number, adds {a} | {name} takes a number, adds {a} to it | {name} writes a number on a card, adds {a} to it
and multiplies the sum by {b}. | and then multiplies by {b}. | and makes the sum {b} times as large.
Then {name} takes away {c} | After that {name} subtracts {c} | From this {name} takes away {c}
and divides what is left by {d}. The result is {e}. | and divides by {d}, which gives {e}. | and divides what is left by {d}. In the end it is {e}.
What is the number? | What number was it at first? | Find the number.
[same_after]
= coins, weekly coins, coins of the other, weekly coins of the other; difference at the start, difference per week, number of weeks
{name} has {a} coins and saves {b} coins a week. | {name} starts with {a} coins and puts by {b} coins each week. | With {a} coins at first, {name} adds {b} coins every week.
{other} has {c} coins and saves {d} coins a week. | {other} starts with {c} coins and puts by {d} coins each week. | With {c} coins at first, {other} adds {d} coins every week.
After how many weeks do both have the same? | In how many weeks do they have equally many coins? | How many weeks does it take until both have the same number of coins?

[sum_larger]
= total, difference; twice the larger number, larger number
The sum of two numbers is {a}. | Two numbers add up to {a}. | Together two numbers make {a}.
Their difference is {b}. | One is {b} larger than the other. | They differ by {b}.
What is the larger number? | Find the larger one. | How large is the larger number?
= total, difference; twice the number of {name}, number of {item} of {name}
{name} and {other} have {a} {item} together. | Together {name} and {other} have {a} {item}. | In all {name} and {other} have {a} {item}.
{name} has {b} more than {other}. | There are {b} more for {name} than for {other}. | {other} has {b} fewer than {name}.
How many {item} does {name} have? | How many {item} has {name}? | Find the number of {item} of {name}.
[sum_smaller]
= total, difference; twice the smaller number, smaller number
The sum of two numbers is {a}. | Two numbers add up to {a}. | Together two numbers make {a}.
Their difference is {b}. | One is {b} larger than the other. | They differ by {b}.
What is the smaller number? | Find the smaller one. | How large is the smaller number?
= total, difference; twice the number of {other}, number of {item} of {other}
{name} and {other} have {a} {item} together. | Together {name} and {other} have {a} {item}. | In all {name} and {other} have {a} {item}.
{name} has {b} more than {other}. | There are {b} more for {name} than for {other}. | {other} has {b} fewer than {name}.
How many {item} does {other} have? | How many {item} has {other}? | Find the number of {item} of {other}.
[heads_legs]
= heads, legs; legs if all were hens, legs too many, number of rabbits
Hens and rabbits live in a yard. | A farmer keeps hens and rabbits. | In a barn there are only hens and rabbits.
{name} counts {a} heads and {b} legs. | Together they have {a} heads and {b} legs. | There are {a} heads and {b} legs in all.
How many rabbits are there? | How many of the animals are rabbits? | Find the number of rabbits.
[tickets]
= tickets, adult price, child price, money; money if all were children, money above that, price difference, number of adults
A cinema sells {a} tickets. | In a cinema {a} tickets are sold. | One evening a cinema sells {a} tickets.
Adults pay {b} coins, children pay {c} coins. | An adult ticket costs {b} coins and a child ticket {c} coins. | The price is {b} coins for adults and {c} coins for children.
All tickets together cost {d} coins. | In all, {d} coins are paid. | The cinema takes in {d} coins.
How many tickets were for adults? | How many adults came? | Find the number of adult tickets.
[pair_prices]
= first pens, first cups, first cost, second pens, second cups, second cost; first cost times second cups, second cost times first cups, first difference, first product of counts, second product of counts, second difference, price of a pen
{a} pens and {b} cups cost {c} coins. | The price of {a} pens and {b} cups is {c} coins. | For {a} pens and {b} cups {name} pays {c} coins.
{d} pens and {e} cups cost {f} coins. | At the same prices {d} pens and {e} cups cost {f} coins. | For {d} pens and {e} cups of the same kinds {other} pays {f} coins.
How many coins does a pen cost? | What is the price of one pen in coins? | Find the price of a pen in coins.

[left_over]
= {item}, {item} per box; {item} left over
{name} has {a} {item}. | There are {a} {item} on a table. | A shop gets {a} {item}.
They are packed in boxes of {b}. | As many boxes as possible are filled with {b} each. | Each box takes exactly {b}, and only full boxes are made.
How many {item} are left over? | How many {item} stay outside the boxes? | Find the number of {item} left over.
[full_boxes]
= {item}, {item} per box; {item} left over, {item} in boxes, full boxes
{name} has {a} {item}. | There are {a} {item} on a table. | A shop gets {a} {item}.
They are packed in boxes of {b}. | Each box takes {b} of them. | They go into boxes, {b} in each.
How many boxes are full? | How many full boxes are there? | Find the number of full boxes.
[boxes_needed]
= {item}, {item} per box; {item} left over, {item} in full boxes, full boxes, boxes needed
{name} has {a} {item}. | There are {a} {item} on a table. | A shop gets {a} {item}.
A box holds at most {b}. | At most {b} of them fit into a box. | Each box has room for {b} of them.
How many boxes are needed for all of them? | How many boxes does it take to pack all the {item}? | What is the smallest number of boxes that is enough?
[gcd]
= first number, second number; greatest common divisor
What is the greatest common divisor of {a} and {b}? | Find the greatest common divisor of {a} and {b}. | Which is the largest number that divides both {a} and {b}?
[lcm]
= first number, second number; least common multiple
What is the least common multiple of {a} and {b}? | Find the least common multiple of {a} and {b}. | Which is the smallest positive number that both {a} and {b} divide?
[mod_value]
= first factor, second factor, addend, divisor; product, total, remainder
What is the remainder of {a}*{b}+{c} when it is divided by {d}? | Find the remainder when {a}*{b}+{c} is divided by {d}. | Divide {a}*{b}+{c} by {d}. What is the remainder?
[gcd_bags]
= pens, cups; largest number of bags
A teacher has {a} pens and {b} cups. | There are {a} pens and {b} cups. | For a party there are {a} pens and {b} cups.
All bags get the same content and nothing is left over. | They are put into equal bags and nothing is left over. | Everything goes into bags with the same content.
What is the largest possible number of bags? | How many bags can there be at most? | Find the largest number of bags.
[bag_content]
= pens, cups; largest number of bags, pens in a bag, cups in a bag, things in a bag
A teacher has {a} pens and {b} cups. | There are {a} pens and {b} cups. | For a party there are {a} pens and {b} cups.
They are put into as many equal bags as possible, and nothing is left over. | As many bags with the same content as possible are made of them, with nothing left over. | All of them go into equal bags, and there are as many bags as possible.
How many things are in a bag? | How many pens and cups together does each bag hold? | Find the number of things in each bag.
[lcm_buses]
= minutes of the first, minutes of the second; minutes until both leave
A red bus leaves every {a} minutes and a blue bus every {b} minutes. | Every {a} minutes a red bus leaves, every {b} minutes a blue one. | From a stop a red bus goes every {a} minutes and a blue bus every {b} minutes.
Both leave now. | They have just left together. | At this moment both leave.
After how many minutes do they next leave together? | In how many minutes do both leave together again? | How many minutes is it until the next time both leave together?
[lcm_three]
= minutes of the first, minutes of the second, minutes of the third; minutes until the first two ring, minutes until all ring
Three bells ring every {a}, {b} and {c} minutes. | One bell rings every {a} minutes, another every {b} minutes, a third every {c} minutes. | Of three bells the first rings every {a}, the second every {b} and the third every {c} minutes.
All three ring now. | They have just rung together. | At this moment all three ring.
After how many minutes do all three next ring together? | In how many minutes do they all ring together again? | How many minutes is it until the next time all three ring together?
[lcm_rest]
= first size, second size, third size, rest; least common multiple of the first two, least common multiple of all three, smallest number
{name} packs {item} in bags of {a}, of {b} or of {c}. | {name} tries bags of {a}, of {b} and of {c} for some {item}. | For the {item} of {name} there are bags of {a}, of {b} or of {c}.
Each time exactly {d} are left over, and there is at least one full bag. | With every size, after filling at least one bag, exactly {d} are left over. | Whatever the size, at least one bag is filled and exactly {d} remain.
What is the smallest possible number of {item}? | How many {item} are there at least? | Find the smallest number of {item} for which this is so.

[term]
= first term, second term, third term, place; common difference, steps to the term, growth, term
An arithmetic sequence starts with {a}, {b}, {c}. What is term number {d}? | Find term number {d} of the arithmetic sequence {a}, {b}, {c}, ... | The numbers {a}, {b}, {c} and so on grow by the same amount each time. What is term number {d}?
[falling_term]
= first term, second term, third term, place; common difference, steps to the term, change, term
An arithmetic sequence starts with {a}, {b}, {c}. What is term number {d}? | Find term number {d} of the arithmetic sequence {a}, {b}, {c}, ... | The numbers {a}, {b}, {c} and so on fall by the same amount each time. What is term number {d}?
[last_row]
= seats in the first row, more seats per row, rows; rows after the first, added seats, seats in the last row
The first row of a hall has {a} seats. | A hall has {a} seats in the first row. | In a hall there are {a} seats in the first row.
Each next row has {b} more than the row before. | Every row after it has {b} seats more than the one before. | From row to row there are {b} more seats.
There are {c} rows. | The hall has {c} rows. | In all there are {c} rows.
How many seats has the last row? | How many seats are in the last row? | Find the number of seats in the last row.
= coins on the first day, more coins per day, days; days after the first, added coins, coins on the last day
On the first day {name} saves {a} coins. | {name} saves {a} coins on the first day. | The first day {name} puts {a} coins into a box.
Each day it is {b} coins more than on the day before. | Every day after that {name} saves {b} coins more than the day before. | From day to day it is {b} coins more.
{name} does this for {c} days. | This goes on for {c} days in all. | {name} saves on {c} days in all.
How many coins does {name} save on the last day? | How many coins are saved on the last day? | Find the number of coins saved on the last day.
[all_rows]
= seats in the first row, more seats per row, rows; rows after the first, added seats, seats in the last row, first and last row together, twice all seats, all seats
The first row of a hall has {a} seats. | A hall has {a} seats in the first row. | In a hall there are {a} seats in the first row.
Each next row has {b} more than the row before. | Every row after it has {b} seats more than the one before. | From row to row there are {b} more seats.
There are {c} rows. | The hall has {c} rows. | In all there are {c} rows.
How many seats are there in the hall? | How many seats do all the rows have together? | Find the number of all seats.
= coins on the first day, more coins per day, days; days after the first, added coins, coins on the last day, first and last day together, twice all coins, all coins
On the first day {name} saves {a} coins. | {name} saves {a} coins on the first day. | The first day {name} puts {a} coins into a box.
Each day it is {b} coins more than on the day before. | Every day after that {name} saves {b} coins more than the day before. | From day to day it is {b} coins more.
{name} does this for {c} days. | This goes on for {c} days in all. | {name} saves on {c} days in all.
How many coins does {name} save altogether? | How many coins are saved in all? | Find the total number of coins saved.
[row_tickets]
= seats in the first row, more seats per row, rows, ticket price; rows after the first, added seats, seats in the last row, first and last row together, twice all seats, all seats, money from all tickets
The first row of a hall has {a} seats. | A hall has {a} seats in the first row. | In a hall there are {a} seats in the first row.
Each next row has {b} more than the row before. | Every row after it has {b} seats more than the one before. | From row to row there are {b} more seats.
There are {c} rows, and a seat costs {d} coins. | The hall has {c} rows, and each ticket costs {d} coins. | In all there are {c} rows, and every seat is sold for {d} coins.
How many coins come in when every seat is sold? | How many coins does a full hall bring? | What do the tickets for all the seats cost together, in coins?
[growth]
= cells, factor, hours; total factor, cells at the end
There are {a} cells in a glass. | A glass holds {a} cells. | At first a glass has {a} cells.
Every hour there are {b} times as many as the hour before. | Each hour their number becomes {b} times as large. | After each hour there are {b} times as many as before.
How many cells are there after {c} hours? | Find the number of cells after {c} hours. | How many cells does it have {c} hours later?
[all_days]
= {item} on the first day, factor, days; factor over all days, that factor less one, product, factor less one, total number of {item}
On the first day a shop sells {a} {item}. | A shop sells {a} {item} on the first day. | The first day brings a shop {a} sold {item}.
Each day it sells {b} times as many as on the day before. | Every day after that it sells {b} times as many as the day before. | From day to day the number is {b} times as large.
How many {item} does it sell in the first {c} days together? | How many {item} are sold in the first {c} days altogether? | Find the total number of {item} sold in the first {c} days.

[perimeter]
= length, width; length and width together, perimeter
A garden is {a} m long and {b} m wide. | A rectangle has sides of {a} m and {b} m. | A rectangular field is {a} m by {b} m.
{name} walks around it once. | {name} goes once all the way around it. | A fence goes all around it.
How many m is that? | How long is the way around, in m? | Find the length of the way around in m.
[box]
= length, width, height; base area, volume
A rectangular box is {a} cm long. | A rectangular box has a length of {a} cm. | A rectangular block of wood is {a} cm long.
It is {b} cm wide and {c} cm high. | It has a width of {b} cm and a height of {c} cm. | It is {b} cm broad and {c} cm tall.
What is its volume in cubic cm? | Find its volume in cubic cm. | How many cubic cm is its volume?
[triangle]
= base, height; base times height, area
A triangle has a base of {a} cm. | The base of a triangle is {a} cm long. | A paper triangle stands on a base of {a} cm.
Its height on this base is {b} cm. | It is {b} cm high above that base. | The height on the base is {b} cm.
What is its area in square cm? | Find its area in square cm. | How many square cm is its area?
[width]
= perimeter, length; length and width together, width
A rectangle has a perimeter of {a} cm. | The perimeter of a rectangle is {a} cm. | A wire of {a} cm is bent into a rectangle.
It is {b} cm long. | One side is {b} cm long. | Its length is {b} cm.
How wide is it, in cm? | What is the length of the other side in cm? | Find its other side in cm.
[area_left]
= garden length, garden width, pond length, pond width; garden area, pond area, area left
A garden is {a} m long and {b} m wide. | A garden has sides of {a} m and {b} m. | A rectangular garden is {a} m by {b} m.
In it there is a pond of {c} m by {d} m. | A pond in it is {c} m long and {d} m wide. | It has a rectangular pond of {c} m by {d} m.
The rest is grass. | Everything else is grass. | Grass grows on all the rest.
How many square m of grass are there? | What is the area of the grass in square m? | Find the area of the grass in square m.
[fence_cost]
= length, width, price per m; length and width together, perimeter, cost of the fence
A garden is {a} m long and {b} m wide. | A garden has sides of {a} m and {b} m. | A rectangular garden is {a} m by {b} m.
A fence goes all around it and costs {c} coins a m. | It gets a fence all around, at {c} coins a m. | Each m of a fence around the whole garden costs {c} coins.
How many coins does the fence cost? | What is the price of the fence in coins? | Find the cost of the fence in coins.
[tank]
= length, width, height, litres per minute; base area, volume, minutes
A tank is {a} dm long, {b} dm wide and {c} dm high, | A tank has a length of {a} dm, a width of {b} dm and a height of {c} dm, | An empty tank is {a} dm by {b} dm and {c} dm high,
and a cubic dm is one litre. | where each cubic dm is one litre. | with one litre to each cubic dm.
A pump fills it with {d} litres a minute. | Water runs in at {d} litres a minute. | A tap gives it {d} litres a minute.
How many minutes does it take to fill it? | After how many minutes is the tank full? | Find the number of minutes until it is full.
[path]
= length, width, path width; both path widths, outer length, outer width, outer area, garden area, path area
A garden is {a} m long and {b} m wide. | A garden has sides of {a} m and {b} m. | A rectangular garden is {a} m by {b} m.
Outside, all around it, runs a path {c} m wide with square corners. | A path {c} m wide with square corners is laid around the outside of it. | Around its outside goes a path {c} m wide that has square corners.
What is the area of the path in square m? | How many square m does the path cover? | Find the area of the path in square m.
[path_cost]
= length, width, path width, price per square m; both path widths, outer length, outer width, outer area, garden area, path area, cost of the path
A garden is {a} m long and {b} m wide. | A garden has sides of {a} m and {b} m. | A rectangular garden is {a} m by {b} m.
Outside, all around it, runs a path {c} m wide with square corners. | A path {c} m wide with square corners is laid around the outside of it. | Around its outside goes a path {c} m wide that has square corners.
A square m of the path costs {d} coins. | The path costs {d} coins a square m. | For each square m of path {d} coins are paid.
What does the path cost, in coins? | How many coins does the whole path cost? | Find the cost of the path in coins.

[mean_three]
= first score, second score, third score; first two together, sum of the scores, average
{name} plays three games and gets {a}, {b} and {c} points. | In three games {name} gets {a}, {b} and {c} points. | The points of {name} in three games are {a}, {b} and {c}.
What is the average? | What is the mean of the three results? | Find the average number of points.
= pages on the first day, pages on the second day, pages on the third day; first two days together, all pages, average
{name} reads a book on three days. | For three days {name} reads a book. | {name} takes three days for a book.
The numbers of pages are {a}, {b} and {c}. | Day by day the pages are {a}, {b} and {c}. | These days bring {a}, {b} and {c} pages.
How many pages a day is that on average? | What is the average number of pages a day? | Find the mean number of pages a day.
[mean_four]
= first score, second score, third score, fourth score; first two together, first three together, sum of the scores, average
{name} plays four games and gets {a}, {b}, {c} and {d} points. | In four games {name} gets {a}, {b}, {c} and {d} points. | The points of {name} in four games are {a}, {b}, {c} and {d}.
What is the average? | What is the mean of the four results? | Find the average number of points.
= pages on the first day, pages on the second day, pages on the third day, pages on the fourth day; first two days together, first three days together, all pages, average
{name} reads a book on four days. | For four days {name} reads a book. | {name} takes four days for a book.
The numbers of pages are {a}, {b}, {c} and {d}. | Day by day the pages are {a}, {b}, {c} and {d}. | These days bring {a}, {b}, {c} and {d} pages.
How many pages a day is that on average? | What is the average number of pages a day? | Find the mean number of pages a day.
[new_mean]
= games, average, new points; points so far, points with the new game, games with the new one, new average
In {a} games {name} gets {b} points on average. | After {a} games {name} has an average of {b} points. | The average of {name} over {a} games is {b} points.
In the next game {name} gets {c} points. | The game after that brings {c} points. | Then {name} plays one more game and gets {c} points.
What is the average of all the games now? | What is the new average? | Find the average with this game.
[mean_needed]
= games, average, wanted average; points so far, games with the next one, points wanted, points needed
In {a} games {name} gets {b} points on average. | After {a} games {name} has an average of {b} points. | The average of {name} over {a} games is {b} points.
With the next game the average should become {c}. | After one more game it should be {c}. | {name} wants an average of {c} after the next game.
How many points are needed in the next game? | How many points must the next game bring? | Find the points needed in that game.
[two_groups]
= first players, first average, second players, second average; points of the first team, points of the second team, all points, all players, average of all
A team of {a} players has {b} points each on average. | In one team {a} players get {b} points on average. | The average of the {a} players of one team is {b} points.
A second team of {c} players has {d} points each on average. | In a second team {c} players get {d} points on average. | For the {c} players of a second team the average is {d} points.
What is the average of all the players together? | How many points is the average of both teams together? | Find the average over all the players.
[one_leaves]
= first players, first average, second players, second average, points of the captain; points of the first team, points of the second team, all points, all players, points without the captain, players without the captain, average without the captain
A team of {a} players has {b} points each on average. | In one team {a} players get {b} points on average. | The average of the {a} players of one team is {b} points.
A second team of {c} players has {d} points each on average. | In a second team {c} players get {d} points on average. | For the {c} players of a second team the average is {d} points.
One player of the first team, its captain, has {e} points. | Among the players of the first team is its captain with {e} points. | The first team's average includes its captain, who has {e} points.
What is the average of all the others in both teams? | Without the captain, what is the average of both teams together? | Find the average of all the players but the captain.

[given_part]
= parts of flour, parts of sugar, grams of flour; grams in a part, grams of sugar
For a cake flour and sugar are mixed {a} to {b}. | A cake takes flour and sugar in the ratio {a}:{b}. | The ratio of flour to sugar in a cake is {a}:{b}.
There are {c} g of flour. | {name} takes {c} g of flour. | The cake has {c} g of flour.
How many g of sugar are needed? | How many g of sugar go with it? | Find the sugar in g.
[share_two]
= coins, parts of {name}, parts of {other}; all parts, coins in a part, coins of {name}
{name} and {other} share {a} coins | Between {name} and {other} {a} coins are shared | {a} coins go to {name} and {other}
in the ratio {b}:{c}, in this order. | in the ratio {b} to {c}, {name} first. | so that {name} gets {b} equal parts and {other} gets {c}.
How many coins does {name} get? | How many coins are for {name}? | Find the share of {name} in coins.
[share_three]
= grams, parts of nuts, parts of oats, parts of raisins; parts of nuts and oats, all parts, grams in a part, grams of nuts
{name} makes {a} g of cereal | A bag holds {a} g of cereal | A shop mixes {a} g of cereal
from nuts, oats and raisins in the ratio {b}:{c}:{d}. | of nuts, oats and raisins, mixed {b} to {c} to {d}. | out of {b} parts of nuts, {c} parts of oats and {d} parts of raisins by weight.
How many g of nuts are in it? | How many g of nuts does it take? | Find the weight of the nuts in g.
[share_more]
= coins, parts of {name}, parts of {other}; all parts, coins in a part, parts more, coins more
{name} and {other} share {a} coins | Between {name} and {other} {a} coins are shared | {a} coins go to {name} and {other}
in the ratio {b}:{c}, in this order. | in the ratio {b} to {c}, {name} first. | so that {name} gets {b} equal parts and {other} gets {c}.
How many more coins does {name} get than {other}? | By how many coins is the share of {name} larger? | How many coins more are for {name} than for {other}?
[whole_from_more]
= parts of boys, parts of girls, girls more; parts more, children in a part, all parts, all children
In a school the ratio of boys to girls is {a}:{b}. | Boys and girls of a school are in the ratio {a} to {b}. | A school has {a} boys for every {b} girls.
There are {c} more girls than boys. | The girls are {c} more than the boys. | There are {c} girls more than boys.
How many children are there in all? | How many boys and girls are there together? | Find the number of all the children.
[mixture]
= parts of cement, parts of sand, parts of gravel, bags of cement, coins per bag; bags in a part, bags of sand, bags of gravel, bags of cement and sand, all bags, total cost
Concrete is mixed from cement, sand and gravel in the ratio {a}:{b}:{c}. | For concrete, cement, sand and gravel are mixed {a} to {b} to {c}. | Concrete takes {a} parts of cement, {b} parts of sand and {c} parts of gravel.
A builder uses {d} bags of cement. | For a wall {d} bags of cement are used. | {name} uses {d} bags of cement for a wall.
A bag of any of them costs {e} coins. | Every bag, whatever is in it, costs {e} coins. | All bags are of one size and cost {e} coins each.
How many coins do all the bags cost? | What do all the bags together cost, in coins? | Find the cost of all three together in coins.

[draw_one]
= red balls, blue balls; all balls, chance of red
A bag holds {a} red and {b} blue balls. | There are {a} red and {b} blue balls in a bag. | In a bag {name} has {a} red and {b} blue balls.
One ball is drawn at random. | {name} draws one without looking. | A ball is taken out by chance.
What is the probability that it is red? | What is the probability of a red ball? | Find the probability of red as a fraction.
[draw_not]
= red balls, blue balls, green balls; red and blue balls, all balls, balls that are not red, chance of not red
A bag holds {a} red, {b} blue and {c} green balls. | There are {a} red, {b} blue and {c} green balls in a bag. | In a bag {name} has {a} red, {b} blue and {c} green balls.
One ball is drawn at random. | {name} draws one without looking. | A ball is taken out by chance.
What is the probability that it is not red? | What is the probability of a ball that is not red? | Find the probability that it is blue or green.
[both]
= red balls, blue balls; all balls, red balls after the first, balls after the first, chance for the first, chance for the second, chance for both
A bag holds {a} red and {b} blue balls. | There are {a} red and {b} blue balls in a bag. | In a bag {name} has {a} red and {b} blue balls.
Two are drawn at random, one after the other, and not put back. | {name} draws two without looking and puts none back. | At random one ball is taken out, then another, without putting any back.
What is the probability that both are red? | What is the probability of two red balls? | Find the probability that both balls are red.
[one_each]
= red balls, blue balls; all balls, balls after the first, red and blue pairs, ordered pairs of both colours, all ordered pairs, chance of one each
A bag holds {a} red and {b} blue balls. | There are {a} red and {b} blue balls in a bag. | In a bag {name} has {a} red and {b} blue balls.
Two are drawn at random, one after the other, and not put back. | {name} draws two without looking and puts none back. | At random one ball is taken out, then another, without putting any back.
What is the probability that the two have different colours? | What is the probability of one red and one blue ball? | Find the probability that one is red and the other blue.
[at_least]
= red balls, blue balls; all balls, blue balls after the first, balls after the first, chance of blue first, chance of blue second, chance of two blue balls, chance of a red ball
A bag holds {a} red and {b} blue balls. | There are {a} red and {b} blue balls in a bag. | In a bag {name} has {a} red and {b} blue balls.
Two are drawn at random, one after the other, and not put back. | {name} draws two without looking and puts none back. | At random one ball is taken out, then another, without putting any back.
What is the probability that at least one is red? | What is the probability of at least one red ball? | Find the probability that one or both are red.
[outfits]
= shirts, trousers, hats; shirts with trousers, number of outfits
{name} has {a} shirts, {b} pairs of trousers and {c} hats. | In a wardrobe there are {a} shirts, {b} pairs of trousers and {c} hats. | {name} packs {a} shirts, {b} pairs of trousers and {c} hats.
An outfit is one of each. | An outfit takes one shirt, one pair of trousers and one hat. | One of each makes an outfit.
How many different outfits are there? | How many outfits are possible? | Find the number of different outfits.
[handshakes]
= people; hands to shake for each, handshakes counted twice, number of handshakes
{a} people meet. | At a party there are {a} people. | A club has {a} members.
Each shakes hands with every other once. | Every two of them shake hands once. | Any two of them shake hands exactly one time.
How many handshakes are there? | How many handshakes is that in all? | Find the number of handshakes.
[prizes]
= runners; runners left for second, runners left for third, ways for the first two, ways for all three
{a} runners are in a race. | In a race there are {a} runners. | A race is run by {a} runners.
There is a first, a second and a third prize, and no two finish together. | The first three get different prizes, and no two finish together. | Gold, silver and bronze go to the first three, and no two finish together.
In how many ways can the prizes go? | How many ways are there to give the prizes? | Find the number of ways in which the prizes can go.

[square_fence]
= area; side, length of the fence
A square garden has an area of {a} square m. | The area of a square garden is {a} square m. | A garden of {a} square m is a square.
A fence goes all around it. | It gets a fence on all four sides. | {name} puts a fence all around it.
How many m of fence are needed? | How long is the fence in m? | Find the length of the fence in m.
[square_left]
= area, room length, room width; area of the other room, area of the square, side of the square
Two rooms have {a} square m together. | The area of two rooms is {a} square m. | A flat of two rooms has {a} square m.
One is {b} m by {c} m, the other is a square. | One is {b} m long and {c} m wide, and the other is a square. | Besides a room of {b} m by {c} m there is a square one.
How long is a side of the square room, in m? | What is the side of the square room in m? | Find the side of the square room in m.
[neighbours]
= product; four times the product, that plus one, square root, twice the smaller number, smaller number
Two positive whole numbers follow each other. | Take two positive whole numbers in a row. | One positive whole number is larger by one than another.
Their product is {a}. | Multiplied, they give {a}. | The product of the two is {a}.
What is the smaller one? | Find the smaller of the two. | How large is the smaller number?
[longer_side]
= meters longer, area; square of the difference, four times the area, sum of both, square root, twice the width, width
A rectangular garden is {a} m longer than wide. | The length of a rectangular garden is {a} m more than its width. | One side of a rectangular garden is {a} m longer than the other.
Its area is {b} square m. | It covers {b} square m. | It has an area of {b} square m.
How wide is it, in m? | What is its shorter side in m? | Find the width of the garden in m.
[longer_length]
= meters longer, area; square of the difference, four times the area, sum of both, square root, twice the width, width, length
A rectangular garden is {a} m longer than wide. | The length of a rectangular garden is {a} m more than its width. | One side of a rectangular garden is {a} m longer than the other.
Its area is {b} square m. | It covers {b} square m. | It has an area of {b} square m.
How long is it, in m? | What is its longer side in m? | Find the length of the garden in m.
"""
